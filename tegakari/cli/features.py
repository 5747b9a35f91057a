"""`tegakari features`."""

from __future__ import annotations

from typing import Annotated

import typer

from tegakari.cli.options import JsonOption, PoolingOption, RunOption, StoreOption, open_source
from tegakari.cli.output import out, print_json, print_table
from tegakari.cli.values import checked_pooling, checked_variety


def features(
    run: RunOption,
    label: Annotated[str, typer.Option("--label", "-l", help="Label, as `tegakari labels` shows it.")],
    layer: Annotated[int | None, typer.Option(help="Only this layer.")] = None,
    variety: Annotated[str | None, typer.Option(help="specific, shared, or a number of labels.")] = None,
    min_d: Annotated[float | None, typer.Option(help="Only features with at least this Cohen's d.")] = None,
    pooling: PoolingOption = None,
    limit: Annotated[int, typer.Option(help="Rows.")] = 20,
    cursor: Annotated[str | None, typer.Option(help="`next` of the page before.")] = None,
    store: StoreOption = None,
    json: JsonOption = False,
) -> None:
    """List the features that carry a label, largest Cohen's d first.

    Example: [bold]tegakari features --run demo-jpn --label 自動車 --variety specific[/]
    """
    page = (
        open_source(store)
        .label_features(
            run,
            label,
            layer=layer,
            pooling=checked_pooling(pooling),
            min_d=min_d,
            variety=checked_variety(variety),
            limit=limit,
        )
        .page(cursor)
    )
    if json:
        print_json(page)
        return
    print_table(
        f"Features of {label} in {run}",
        ("layer", "feature", "d", "variety", "mean", "density", "top tokens"),
        [
            (str(row.layer), str(row.feature), row.d, row.variety, row.mean, row.density, row.top_tokens)
            for row in page.items
        ],
    )
    if page.next:
        out.print(f"more: --cursor {page.next}", soft_wrap=True)
