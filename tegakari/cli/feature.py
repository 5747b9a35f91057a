"""`tegakari feature`."""

from __future__ import annotations

from typing import Annotated

import typer

from tegakari.cli.options import JsonOption, PoolingOption, RunOption, StoreOption, open_run
from tegakari.cli.output import out, print_json, print_table
from tegakari.schemas.api import TopToken


def feature(
    run: RunOption,
    layer: Annotated[int, typer.Option(help="Layer, from 0.")],
    feature: Annotated[int, typer.Option("--feature", "-f", help="Feature of the layer's SAE, from 0.")],
    tokens: Annotated[int, typer.Option(help="Strongest positions shown.")] = 20,
    pooling: PoolingOption = None,
    store: StoreOption = None,
    json: JsonOption = False,
) -> None:
    """Show one feature: its statistics, its labels by Cohen's d, and where it is strongest.

    Example: [bold]tegakari feature --run demo-jpn --layer 3 --feature 41[/]
    """
    from tegakari.store import queries

    opened = open_run(run, store)
    kept = min(tokens, opened.manifest.top_tokens)
    found = queries.feature(opened, layer, feature, pooling=queries.check_pooling(opened, pooling), tokens=kept)
    if json:
        print_json(found)
        return
    out.print(
        f"layer {found.layer} feature {found.feature} of {run}: active on {found.density:.2%} of positions, "
        f"maximum {found.max_activation:.3f}, label variety {found.variety} (pooling {found.pooling})"
    )
    print_table(
        "Labels",
        ("label", "d", "mean", "sd", "documents"),
        [(row.label, row.d, row.mean, row.sd, row.documents) for row in found.labels[:10]],
    )
    print_table(
        "Strongest positions",
        ("activation", "label", "document", "position", "context"),
        [(row.activation, row.label, row.document, str(row.position), _in_context(row)) for row in found.tokens],
    )


def _in_context(row: TopToken) -> str:
    return f"{row.before}【{row.token}】{row.after}"
