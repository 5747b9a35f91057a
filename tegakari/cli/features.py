"""`tegakari features`."""

from __future__ import annotations

from typing import Annotated

import typer

from tegakari.cli.options import (
    AllOption,
    CsvOption,
    CursorOption,
    JsonOption,
    LabelOption,
    PoolingOption,
    RowsOption,
    RunOption,
    StoreOption,
    open_source,
)
from tegakari.cli.output import print_list
from tegakari.cli.row_limit import first_rows, print_rest
from tegakari.schemas.filters import LabelFeatureFilters, parse_variety


def features(
    run: RunOption,
    label: LabelOption,
    layer: Annotated[int | None, typer.Option(help="Only this layer.")] = None,
    variety: Annotated[
        str | None,
        typer.Option(help="specific (to this label alone), shared (with other labels), or a number of labels."),
    ] = None,
    min_cohens_d: Annotated[float | None, typer.Option(help="Only features with at least this Cohen's d.")] = None,
    pooling: PoolingOption = None,
    k: RowsOption = 20,
    every: AllOption = False,
    cursor: CursorOption = None,
    store: StoreOption = None,
    csv: CsvOption = None,
    json: JsonOption = False,
) -> None:
    """List the features that carry a label, largest Cohen's d first.

    Example: [bold]tegakari features --run demo-jpn --label 自動車 --variety specific[/]
    """
    filters = LabelFeatureFilters(
        layer=layer,
        pooling=pooling,
        min_cohens_d=min_cohens_d,
        onset=True,
    )
    if variety is not None:
        filters["variety"] = parse_variety(variety)
    source = open_source(store)
    page = first_rows(lambda limit: source.label_features(run, label, limit=limit, **filters), k, every, cursor)
    print_list(
        page.items,
        (
            *("layer", "feature", "cohens_d", "top_tokens", "lift_tokens"),
            *("documents_active", "variety", "mean", "density", "onset_tokens"),
        ),
        title=f"Features of {label} in {run}",
        json=json,
        csv=csv,
        document=page,
    )
    if not json:
        print_rest(page, k)
