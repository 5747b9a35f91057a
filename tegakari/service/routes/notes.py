"""Routes of notes on features: the list of a run, and the caller's own note on a feature."""

from __future__ import annotations

from typing import Any

from litestar import Request
from litestar.params import JSONBody

from tegakari.schemas.api import Page
from tegakari.schemas.notes import Note, NoteChange
from tegakari.service.admission.authors import author_of
from tegakari.service.http.operations import read, write
from tegakari.service.http.parameters import (
    FEATURE_PATH,
    AuthorFilter,
    AuthorName,
    Cursor,
    FeatureFilter,
    FeatureNumber,
    LayerFilter,
    LayerNumber,
    NoteWords,
    OpenRun,
    PageSize,
    StarredFilter,
    TagFilter,
)
from tegakari.store import notes

NOTE_PATH = f"{FEATURE_PATH}/note"


# Notes are written while the run stays as it is.
@read("/notes", "listNotes", "Notes on features of a run", changes=True)
def list_notes(
    run: OpenRun,
    layer: LayerFilter = None,
    feature: FeatureFilter = None,
    tag: TagFilter = None,
    starred: StarredFilter = None,
    author: AuthorFilter = None,
    q: NoteWords = None,
    limit: PageSize = 50,
    cursor: Cursor = None,
) -> Page[Note]:
    """Notes that pass every filter given, by layer, feature and author."""
    return notes.notes(
        run,
        layer=layer,
        feature=feature,
        tag=tag,
        starred=starred,
        author=author,
        q=q,
        limit=limit,
        cursor=cursor,
    )


@write("PATCH", NOTE_PATH, "writeNote", "Write a note on a feature")
def write_note(
    run: OpenRun,
    layer: LayerNumber,
    feature: FeatureNumber,
    data: JSONBody[NoteChange],
    request: Request[Any, Any, Any],
) -> Note:
    """Write the caller's note on a feature, or change it: what the body leaves out stays as it is.

    Each author has one note per feature. Where the service has keys, the author is the name of the key; a key of scope
    `admin` may name another. A note without star, tags and text is removed.
    """
    return notes.write_note(run, layer, feature, author_of(request, data.author), data)


@write("DELETE", NOTE_PATH, "deleteNote", "Delete a note on a feature")
def delete_note(
    run: OpenRun,
    layer: LayerNumber,
    feature: FeatureNumber,
    request: Request[Any, Any, Any],
    author: AuthorName = None,
) -> Note:
    """Delete the caller's note on a feature, and return it. A key of scope `admin` may name another author."""
    return notes.delete_note(run, layer, feature, author_of(request, author))


RUN_HANDLERS = (list_notes, write_note, delete_note)
