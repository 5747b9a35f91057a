"""`tegakari search`."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from tegakari.cli.options import CsvOption, JsonOption, RowsOption, RunOption, StoreOption, open_source
from tegakari.cli.output import print_cut, print_list
from tegakari.cli.row_limit import nearest_rows
from tegakari.schemas.errors import QueryError


def search(
    run: RunOption,
    words: Annotated[list[str] | None, typer.Argument(help="Words that the documents contain, all of them.")] = None,
    like: Annotated[str | None, typer.Option(help="Instead of words: id of a document; finds similar ones.")] = None,
    kind: Annotated[
        Literal["documents", "explanations"], typer.Option(help="What is searched for the words.")
    ] = "documents",
    k: RowsOption = 20,
    store: StoreOption = None,
    csv: CsvOption = None,
    json: JsonOption = False,
) -> None:
    """Find documents by their words or by likeness to another document, or explanations of features by their words.

    Example: [bold]tegakari search --run demo-jpn 温泉 ドライブ[/]
    """
    source = open_source(store)
    text = " ".join(words or ()).strip()
    if like is not None and text:
        raise QueryError(
            f"words are given ({text}) as well as a document", field="--like", fix="give words or --like, not both"
        )
    if like is None and not text:
        raise QueryError("nothing to search for", field="words", fix="give a word, or --like with a document's id")
    if kind == "explanations":
        if like is not None:
            raise QueryError("explanations are searched by words", field="--like", fix="give words")
        page = source.explanations(run, q=text, limit=k).page()
        explained = ("layer", "feature", "text", "author")
        print_list(page.items, explained, title=f"Explanations in {run}", json=json, csv=csv)
        if page.next is not None and not json:
            print_cut(len(page.items), None, f"-k {2 * k} shows more")
        return
    rows, more = nearest_rows(
        lambda limit: (
            source.search(run, text, limit=limit) if like is None else source.similar_documents(run, like, limit=limit)
        ),
        k,
    )
    columns = ("document", "score", "label", "text", "predicted")
    print_list(rows, columns, title=f"Documents of {run}", json=json, csv=csv)
    if more and not json:
        print_cut(len(rows), None, f"-k {2 * k} shows more")
