"""`tegakari features`."""

from __future__ import annotations

from typing import Annotated

import typer

from tegakari.cli.options import JsonOption, PoolingOption, RunOption, StoreOption, open_source
from tegakari.cli.output import out, print_list
from tegakari.schemas.filters import LabelFeatureFilters, parse_variety


def features(
    run: RunOption,
    label: Annotated[str, typer.Option("--label", "-l", help="Label, as `tegakari labels` shows it.")],
    layer: Annotated[int | None, typer.Option(help="Only this layer.")] = None,
    variety: Annotated[
        str | None,
        typer.Option(help="specific (to this label alone), shared (with other labels), or a number of labels."),
    ] = None,
    min_cohens_d: Annotated[float | None, typer.Option(help="Only features with at least this Cohen's d.")] = None,
    pooling: PoolingOption = None,
    limit: Annotated[int, typer.Option(help="Rows.")] = 20,
    cursor: Annotated[str | None, typer.Option(help="`next` of the page before.")] = None,
    store: StoreOption = None,
    json: JsonOption = False,
) -> None:
    """List the features that carry a label, largest Cohen's d first.

    Example: [bold]tegakari features --run demo-jpn --label 自動車 --variety specific[/]
    """
    filters = LabelFeatureFilters(
        layer=layer,
        pooling=pooling,
        min_cohens_d=min_cohens_d,
    )
    if variety is not None:
        filters["variety"] = parse_variety(variety)
    page = open_source(store).label_features(run, label, limit=limit, **filters).page(cursor)
    print_list(
        page.items,
        ("layer", "feature", "cohens_d", "documents_active", "variety", "mean", "density", "top_tokens"),
        title=f"Features of {label} in {run}",
        json=json,
        document=page,
    )
    if page.next and not json:
        out.print(f"more: --cursor {page.next}", soft_wrap=True)
