"""`tegakari neighbours`."""

from __future__ import annotations

from typing import Annotated

import typer

from tegakari.cli.options import (
    CsvOption,
    FeatureOption,
    JsonOption,
    RowsOption,
    RunOption,
    StoreOption,
    open_source,
    parse_feature,
)
from tegakari.cli.output import print_cut, print_list
from tegakari.cli.row_limit import nearest_rows


def neighbours(
    run: RunOption,
    feature: FeatureOption,
    in_run: Annotated[str | None, typer.Option(help="Run that is searched; default: the same.")] = None,
    in_layer: Annotated[int | None, typer.Option(help="Layer that is searched; default: all.")] = None,
    k: RowsOption = 20,
    store: StoreOption = None,
    csv: CsvOption = None,
    json: JsonOption = False,
) -> None:
    """List the features whose decoder directions are nearest to that of a feature, by cosine.

    Example: [bold]tegakari neighbours --run demo-jpn --feature 3:361[/]
    """
    source = open_source(store)
    layer, number = parse_feature(feature)
    rows, more = nearest_rows(
        lambda limit: source.feature_neighbours(run, layer, number, in_run=in_run, in_layer=in_layer, limit=limit), k
    )
    print_list(
        rows,
        ("run", "layer", "feature", "cosine", "top_tokens", "best_label", "variety"),
        title=f"Nearest to feature {number} of layer {layer} in {run}",
        json=json,
        csv=csv,
    )
    if more and not json:
        print_cut(len(rows), None, f"-k {2 * k} shows more")
