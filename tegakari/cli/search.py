"""`tegakari search`."""

from __future__ import annotations

from typing import Annotated

import typer

from tegakari.cli.options import JsonOption, RunOption, StoreOption, open_source
from tegakari.cli.output import print_list
from tegakari.schemas.errors import QueryError


def search(
    run: RunOption,
    words: Annotated[str | None, typer.Argument(help="Words that the documents contain, all of them.")] = None,
    like: Annotated[str | None, typer.Option(help="Instead of words: id of a document; finds similar ones.")] = None,
    limit: Annotated[int, typer.Option(help="Rows.")] = 20,
    store: StoreOption = None,
    json: JsonOption = False,
) -> None:
    """Find documents by their words, or by likeness to another document.

    Example: [bold]tegakari search --run demo-jpn 車[/]
    """
    source = open_source(store)
    if like is not None:
        rows = list(source.similar_documents(run, like, limit=limit))
    elif words and words.strip():
        rows = list(source.search(run, words, limit=limit))
    else:
        raise QueryError("nothing to search for", field="words", fix="give a word, or --like with a document's id")
    columns = ("document", "score", "label", "predicted", "text")
    print_list(rows, columns, title=f"Documents of {run}", json=json)
