"""`tegakari neighbours`."""

from __future__ import annotations

from typing import Annotated

import typer

from tegakari.cli.options import JsonOption, RunOption, StoreOption, store_directory
from tegakari.cli.output import print_json, print_table


def neighbours(
    run: RunOption,
    layer: Annotated[int, typer.Option(help="Layer of the feature.")],
    feature: Annotated[int, typer.Option(help="The feature.")],
    within: Annotated[str | None, typer.Option("--in", help="Run that is searched; default: the same.")] = None,
    in_layer: Annotated[int | None, typer.Option(help="Layer that is searched; default: all.")] = None,
    limit: Annotated[int, typer.Option(help="Rows.")] = 20,
    store: StoreOption = None,
    json: JsonOption = False,
) -> None:
    """List the features whose decoder directions are nearest to that of a feature, by cosine.

    Example: [bold]tegakari neighbours --run demo-jpn --layer 1 --feature 41[/]
    """
    from tegakari.store import Store, queries

    runs = Store(store_directory(store))
    other = runs.run(within) if within else None
    found = queries.feature_neighbours(runs.run(run), layer, feature, within=other, in_layer=in_layer, limit=limit)
    if json:
        print_json(found)
        return
    print_table(
        f"Nearest to feature {feature} of layer {layer} in {run}",
        ("run", "layer", "feature", "cosine", "variety", "best label", "top tokens"),
        [(row.run, row.layer, row.feature, row.cosine, row.variety, row.best_label, row.top_tokens) for row in found],
    )
