"""Routes of notes on features: the list of a run, and the caller's own note on a feature."""

from __future__ import annotations

from typing import Annotated, Any

from litestar import Request, delete, patch
from litestar.params import JSONBody

from tegakari.schemas.api import Page
from tegakari.schemas.errors import BodyError, KeyScopeError, TegakariError
from tegakari.schemas.keys import ApiKey
from tegakari.schemas.notes import MAX_AUTHOR, MAX_TAG, MAX_TEXT, Note, NoteChange
from tegakari.service.http.operations import NO_STORE, read
from tegakari.service.http.parameters import (
    FEATURE_PATH,
    Cursor,
    FeatureNumber,
    LayerFilter,
    LayerNumber,
    OpenRun,
    PageSize,
    optional,
)
from tegakari.service.http.problems import documented
from tegakari.store import notes

NOTE_PATH = f"{FEATURE_PATH}/note"
WRITE_PROBLEMS = (400, 404, 413, 415, 500, 507)

FeatureFilter = Annotated[int | None, optional("only features of this number", type="integer", minimum=0)]
TagFilter = Annotated[str | None, optional("only notes with this tag", type="string", maxLength=MAX_TAG)]
StarredFilter = Annotated[bool | None, optional("only notes with a star (false: without)", type="boolean")]
AuthorName = Annotated[
    str | None, optional("author of the note; default: the name of the API key", type="string", maxLength=MAX_AUTHOR)
]
AuthorFilter = Annotated[str | None, optional("only notes of this author", type="string", maxLength=MAX_AUTHOR)]
NoteWords = Annotated[
    str | None,
    optional(
        "only notes with all these words in text or tags, whatever their case and width",
        type="string",
        maxLength=MAX_TEXT,
    ),
]


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


@patch(
    NOTE_PATH,
    operation_id="writeNote",
    summary="Write a note on a feature",
    responses=documented(*WRITE_PROBLEMS),
    cache_control=NO_STORE,
    sync_to_thread=True,
)
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
    author = author_of(request, data.author, BodyError("the note has no author", field="author", fix=NAME_AUTHOR))
    return notes.write_note(run, layer, feature, author, data)


@delete(
    NOTE_PATH,
    operation_id="deleteNote",
    summary="Delete a note on a feature",
    status_code=200,
    responses=documented(*WRITE_PROBLEMS),
    cache_control=NO_STORE,
    sync_to_thread=True,
)
def delete_note(
    run: OpenRun,
    layer: LayerNumber,
    feature: FeatureNumber,
    request: Request[Any, Any, Any],
    author: AuthorName = None,
) -> Note:
    """Delete the caller's note on a feature, and return it. A key of scope `admin` may name another author."""
    missing = BodyError("whose note is not said", field="author", fix="add `author` to the query")
    return notes.delete_note(run, layer, feature, author_of(request, author, missing))


NAME_AUTHOR = "give `author`, the name under which others see the note"


def author_of(request: Request[Any, Any, Any], named: str | None, missing: TegakariError) -> str:
    """Author of the note that a request writes.

    Args:
        request: with the key that the gate has checked.
        named: author that the request names.
        missing: raised where the service has no keys and the request names nobody.

    Raises:
        KeyScopeError: the request names another author than its key.
    """
    key = _key_of(request)
    if key is None:
        if named is None:
            raise missing
        return named
    if named is None or named == key.name or key.scope == "admin":
        return key.name if named is None else named
    raise KeyScopeError(
        f"the key {key.id} writes notes of {key.name!r}, not of {named!r}",
        field="author",
        fix="leave `author` out, or use a key with scope admin",
    )


def author_of_key(request: Request[Any, Any, Any]) -> str | None:
    """Name under which a request writes; None: the service has no keys, so that the request names the author."""
    key = _key_of(request)
    return None if key is None else key.name


def _key_of(request: Request[Any, Any, Any]) -> ApiKey | None:
    return request.scope["state"].get("key")


RUN_HANDLERS = (list_notes, write_note, delete_note)
