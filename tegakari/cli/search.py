"""`tegakari search`."""

from __future__ import annotations

from typing import Annotated

import typer

from tegakari.cli.options import JsonOption, RunOption, StoreOption, store_directory
from tegakari.cli.output import print_json, print_table


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
    from tegakari.store import Store, queries

    opened = Store(store_directory(store)).run(run)
    if like is None:
        found = queries.search(opened, words or "", limit=limit)
    else:
        found = queries.similar_documents(opened, like, limit=limit)
    if json:
        print_json(found)
        return
    print_table(
        f"Documents of {run}",
        ("document", "score", "label", "predicted", "text"),
        [(row.document, row.score, row.label, row.predicted, row.text) for row in found],
    )
