"""`tegakari feature`."""

from __future__ import annotations

from typing import Annotated

import typer

from tegakari.cli.options import JsonOption, PoolingOption, RunOption, StoreOption, open_source
from tegakari.cli.output import out, print_json, print_table
from tegakari.cli.values import checked_pooling
from tegakari.schemas.api import TopToken

SHOWN_LABELS = 10


def feature(
    run: RunOption,
    layer: Annotated[int, typer.Option(help="Layer, from 0.")],
    feature: Annotated[int, typer.Option("--feature", "-f", help="Feature of the layer's SAE, from 0.")],
    tokens: Annotated[
        int | None, typer.Option(help="Strongest positions; default: 20, or all if fewer are kept.")
    ] = None,
    pooling: PoolingOption = None,
    store: StoreOption = None,
    json: JsonOption = False,
) -> None:
    """Show one feature: its statistics, its labels by Cohen's d, and where it is strongest.

    Example: [bold]tegakari feature --run demo-jpn --layer 3 --feature 41[/]
    """
    detail = open_source(store).feature(run, layer, feature, pooling=checked_pooling(pooling), tokens=tokens)
    if json:
        print_json(detail)
        return
    out.print(
        f"layer {detail.layer} feature {detail.feature} of {run}: active on {detail.density:.2%} of positions, "
        f"maximum {detail.max_activation:.3f}, label variety {detail.variety} (pooling {detail.pooling})"
    )
    print_table(
        "Labels",
        ("label", "d", "mean", "sd", "documents"),
        [(row.label, row.d, row.mean, row.sd, row.documents) for row in detail.labels[:SHOWN_LABELS]],
    )
    print_table(
        "Strongest positions",
        ("activation", "label", "document", "position", "context"),
        [(row.activation, row.label, row.document, str(row.position), _in_context(row)) for row in detail.tokens],
    )


def _in_context(row: TopToken) -> str:
    return f"{row.before}【{row.token}】{row.after}"
