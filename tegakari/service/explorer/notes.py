"""Page of the notes on the features of a run."""

from __future__ import annotations

from typing import Any

from litestar import Request, Response

from tegakari.service.explorer.page import page, render
from tegakari.service.http.parameters import AuthorFilter, Cursor, NoteWords, OpenRun, StarredFilter, TagFilter
from tegakari.store import queries
from tegakari.store.notes import notes

NOTES_SHOWN = 50


@page("/notes")
def notes_page(
    run: OpenRun,
    request: Request[Any, Any, Any],
    q: NoteWords = None,
    tag: TagFilter = None,
    starred: StarredFilter = None,
    author: AuthorFilter = None,
    cursor: Cursor = None,
) -> Response[str]:
    """Notes that pass every filter, by layer, feature and author."""
    filters = {"q": q, "tag": tag, "starred": None if starred is None else str(starred).lower(), "author": author}
    return render(
        request,
        "notes",
        run=queries.run_summary(run),
        notes=notes(run, q=q, tag=tag, starred=starred, author=author, limit=NOTES_SHOWN, cursor=cursor),
        filters=filters,
    )


RUN_HANDLERS = (notes_page,)
