"""`tegakari neighbours`."""

from __future__ import annotations

from typing import Annotated

import typer

from tegakari.cli.options import JsonOption, RunOption, StoreOption, open_source
from tegakari.cli.output import print_list


def neighbours(
    run: RunOption,
    layer: Annotated[int, typer.Option(help="Layer of the feature.")],
    feature: Annotated[int, typer.Option("--feature", "-f", help="Number of the feature.")],
    in_run: Annotated[str | None, typer.Option("--in", help="Run that is searched; default: the same.")] = None,
    in_layer: Annotated[int | None, typer.Option(help="Layer that is searched; default: all.")] = None,
    limit: Annotated[int, typer.Option(help="Rows.")] = 20,
    store: StoreOption = None,
    json: JsonOption = False,
) -> None:
    """List the features whose decoder directions are nearest to that of a feature, by cosine.

    Example: [bold]tegakari neighbours --run demo-jpn --layer 1 --feature 41[/]
    """
    rows = list(
        open_source(store).feature_neighbours(run, layer, feature, in_run=in_run, in_layer=in_layer, limit=limit)
    )
    columns = ("run", "layer", "feature", "cosine", "variety", "best_label", "top_tokens")
    print_list(rows, columns, title=f"Nearest to feature {feature} of layer {layer} in {run}", json=json)
