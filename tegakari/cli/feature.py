"""`tegakari feature`."""

from __future__ import annotations

from itertools import islice
from typing import Annotated

import msgspec
import typer

from tegakari.cli.options import JsonOption, PoolingOption, RunOption, StoreOption, open_source
from tegakari.cli.output import out, print_json, print_table
from tegakari.schemas.api import TopToken

SHOWN_LABELS = 10


def feature(
    run: RunOption,
    layer: Annotated[int, typer.Option(help="Layer, from 0.")],
    feature: Annotated[int, typer.Option("--feature", "-f", help="Feature of the layer's SAE, from 0.")],
    tokens: Annotated[int, typer.Option(help="Strongest positions shown.", min=0)] = 20,
    pooling: PoolingOption = None,
    store: StoreOption = None,
    json: JsonOption = False,
) -> None:
    """Show one feature: its statistics, its labels by Cohen's d, and where it is strongest.

    Example: [bold]tegakari feature --run demo-jpn --layer 1 --feature 41[/]
    """
    source = open_source(store)
    detail = source.feature(run, layer, feature, pooling=pooling, tokens=0)
    positions = list(islice(source.feature_tokens(run, layer, feature), tokens))
    detail = msgspec.structs.replace(detail, tokens=positions)
    if json:
        print_json(detail)
        return
    out.print(
        f"layer {detail.layer} feature {detail.feature} of {run}: active on {detail.density:.2%} of positions, "
        f"maximum {detail.max_activation:.3f}, label variety {detail.variety} (pooling {detail.pooling})"
    )
    print_table(
        "Labels",
        ("label", "d", "unweighted d", "documents active", "documents", "mean", "sd"),
        [
            (row.label, row.cohens_d, row.cohens_d_unweighted, row.documents_active, row.documents, row.mean, row.sd)
            for row in detail.labels[:SHOWN_LABELS]
        ],
    )
    print_table(
        "Strongest positions",
        ("activation", "label", "document", "position", "context"),
        [(row.activation, row.label, row.document, str(row.position), _in_context(row)) for row in detail.tokens],
    )


def _in_context(row: TopToken) -> str:
    return f"{row.before}【{row.token}】{row.after}"
