"""Route of the search of documents by words."""

from __future__ import annotations

from typing import Annotated

from litestar.params import QueryParameter

from tegakari.schemas.api import DocumentMatch, Page
from tegakari.service.http.operations import read
from tegakari.service.http.parameters import OpenRun, PageSize
from tegakari.store import Run, queries

SearchedText = Annotated[str, QueryParameter(description="words to search for", min_length=1, max_length=1000)]


# Vectors, and the index of words with them, can be added to a run later.
@read("/search", "searchDocuments", "Search of documents", changes=True)
def search_documents(run: OpenRun, q: SearchedText, limit: PageSize = 20) -> Page[DocumentMatch]:
    """Documents that contain the words, best first by BM25; Japanese is split into words."""
    return Page(queries.search(run, q, limit=limit))


def first_search(run: Run) -> None:
    """Search once, which opens the index of words.

    Raises:
        NotFoundError: the run has no vectors.
    """
    queries.search(run, "a", limit=1)


RUN_HANDLERS = (search_documents,)
