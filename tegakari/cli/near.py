"""`tegakari neighbours` and `tegakari search`: what lies near a feature, and documents by their words."""

from __future__ import annotations

from typing import Annotated

import typer

from tegakari.cli.options import JsonOption, RunOption, StoreOption, store_directory
from tegakari.cli.output import print_json, print_table


def register(app: typer.Typer) -> None:
    for command in (neighbours, search):
        app.command(command.__name__)(command)


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
    from tegakari.store import Store, similar

    runs = Store(store_directory(store))
    other = runs.run(within) if within else None
    found = similar.neighbours(runs.run(run), layer, feature, within=other, in_layer=in_layer, limit=limit)
    if json:
        print_json(found)
        return
    print_table(
        f"Nearest to feature {feature} of layer {layer} in {run}",
        ("run", "layer", "feature", "cosine", "variety", "best label", "top tokens"),
        [(row.run, row.layer, row.feature, row.cosine, row.variety, row.best_label, row.top_tokens) for row in found],
    )


def search(
    run: RunOption,
    words: Annotated[str | None, typer.Argument(help="Words that the documents hold, all of them.")] = None,
    like: Annotated[str | None, typer.Option(help="Instead of words: id of a document; finds similar ones.")] = None,
    limit: Annotated[int, typer.Option(help="Rows.")] = 20,
    store: StoreOption = None,
    json: JsonOption = False,
) -> None:
    """Find documents by their words, or by likeness to another document.

    Example: [bold]tegakari search --run demo-jpn 車[/]
    """
    from tegakari.store import Store, similar

    opened = Store(store_directory(store)).run(run)
    if like is None:
        found = similar.search_documents(opened, words or "", limit=limit)
    else:
        found = similar.similar_documents(opened, like, limit=limit)
    if json:
        print_json(found)
        return
    print_table(
        f"Documents of {run}",
        ("document", "score", "label", "predicted", "text"),
        [(row.document, row.score, row.label, row.predicted, row.text) for row in found],
    )
