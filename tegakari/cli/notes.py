"""`tegakari notes`: stars, tags and texts of people on features."""

from __future__ import annotations

from typing import Annotated

import typer

from tegakari.cli.options import (
    AllOption,
    AuthorOption,
    CsvOption,
    CursorOption,
    FeatureOption,
    JsonOption,
    RowsOption,
    RunOption,
    StoreOption,
    feature_filter,
    open_source,
    parse_feature,
)
from tegakari.cli.output import print_json, print_list, print_text
from tegakari.cli.row_limit import first_rows, print_rest
from tegakari.schemas.errors import ConfigError
from tegakari.schemas.notes import Note, NoteChange, NoteFilters

app = typer.Typer(help="Notes on features: list, write, delete.", no_args_is_help=True)


@app.command("list")
def list_(
    run: RunOption,
    words: Annotated[list[str] | None, typer.Argument(help="Only notes with all these words in text or tags.")] = None,
    feature: Annotated[
        str | None, typer.Option("--feature", "-f", metavar="L:F", help="Only notes on this feature, as 2:17.")
    ] = None,
    layer: Annotated[int | None, typer.Option(help="Only notes on features of this layer.")] = None,
    tag: Annotated[str | None, typer.Option(help="Only notes with this tag.")] = None,
    starred: Annotated[
        bool | None, typer.Option("--star/--no-star", help="Only notes with a star, or without.")
    ] = None,
    author: Annotated[str | None, typer.Option(help="Only notes of this author.")] = None,
    k: RowsOption = 20,
    every: AllOption = False,
    cursor: CursorOption = None,
    store: StoreOption = None,
    csv: CsvOption = None,
    json: JsonOption = False,
) -> None:
    """List the notes on features of a run, by layer, feature and author.

    Example: [bold]tegakari notes list --run demo-jpn --tag 季節[/]
    """
    layer, number = feature_filter(feature, layer)
    filters = NoteFilters(
        layer=layer, feature=number, tag=tag, starred=starred, author=author, q=" ".join(words or ()) or None
    )
    source = open_source(store)
    page = first_rows(lambda limit: source.notes(run, limit=limit, **filters), k, every, cursor)
    print_list(
        page.items,
        ("layer", "feature", "starred", "author", "text", "tags", "updated"),
        title=f"Notes on {run}",
        json=json,
        csv=csv,
        document=page,
    )
    if not json:
        print_rest(page, k)


@app.command()
def write(
    run: RunOption,
    feature: FeatureOption,
    text: Annotated[str | None, typer.Option("--text", "-t", help="Text of the note; empty: none.")] = None,
    tag: Annotated[list[str] | None, typer.Option(help="A tag; repeatable. Replaces all tags of the note.")] = None,
    starred: Annotated[
        bool | None, typer.Option("--star/--no-star", help="Give the feature a star, or take it.")
    ] = None,
    author: AuthorOption = None,
    store: StoreOption = None,
    json: JsonOption = False,
) -> None:
    """Write your note on a feature, or change what is given of it; a note with nothing in it is removed.

    Example: [bold]tegakari notes write --run demo-jpn --feature 2:17 --star --tag 季節 --text "fires on 桜"[/]
    """
    if text is None and not tag and starred is None:
        raise ConfigError("nothing to write", field="--text", fix="give --text, --tag or --star")
    change = NoteChange(text=text, tags=tag or None, starred=starred, author=author)
    note = open_source(store).write_note(run, *parse_feature(feature), change)
    _report(f"removed: the note of {note.author} is empty" if note.empty else f"written as {note.author}", note, json)


@app.command()
def delete(
    run: RunOption,
    feature: FeatureOption,
    author: AuthorOption = None,
    store: StoreOption = None,
    json: JsonOption = False,
) -> None:
    """Delete your note on a feature.

    Example: [bold]tegakari notes delete --run demo-jpn --feature 2:17[/]
    """
    note = open_source(store).delete_note(run, *parse_feature(feature), author=author)
    _report(f"deleted the note of {note.author} on feature {feature}", note, json)


def _report(sentence: str, note: Note, json: bool) -> None:
    if json:
        print_json(note)
    else:
        print_text(sentence)
