"""`tegakari features`."""

from __future__ import annotations

from typing import Annotated

import typer

from tegakari.cli.options import JsonOption, PoolingOption, RunOption, StoreOption, open_run
from tegakari.cli.output import out, print_json, print_table


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
    from tegakari.store import queries

    opened = open_run(run, store)
    page = queries.label_features(
        opened,
        label,
        layer=layer,
        pooling=queries.check_pooling(opened, pooling),
        min_d=min_d,
        variety=queries.parse_variety(variety) if variety is not None else None,
        limit=limit,
        cursor=cursor,
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
