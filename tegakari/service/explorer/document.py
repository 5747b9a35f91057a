"""Page of a document: its text, its prediction, its features, and documents like it."""

from __future__ import annotations

from itertools import groupby
from typing import Any

from litestar import Request, Response

from tegakari.schemas.errors import NotFoundError
from tegakari.service.explorer.page import page, render
from tegakari.service.http.parameters import DocumentId, OpenRun
from tegakari.store import queries
from tegakari.store.notes import starred_features

FEATURES_PER_LAYER = 5
SIMILAR_SHOWN = 8


@page("/documents/{document:str}")
def document_page(run: OpenRun, document: DocumentId, request: Request[Any, Any, Any]) -> Response[str]:
    """One document of the run."""
    detail = queries.document(run, document, features=FEATURES_PER_LAYER)
    return render(
        request,
        "document",
        run=queries.run_summary(run),
        document=detail,
        margin=None if detail.correct else detail.predicted_logit - detail.label_logit,
        stars=starred_features(run, [(row.layer, row.feature) for row in detail.features]),
        layers=[(layer, list(rows)) for layer, rows in groupby(detail.features, lambda row: row.layer)],
    )


@page("/documents/{document:str}/similar", changes=True)
def similar_page(run: OpenRun, document: DocumentId, request: Request[Any, Any, Any]) -> Response[str]:
    """Documents by the cosine of their embeddings with this one's."""
    detail = queries.document(run, document, features=0)
    try:
        similar = queries.similar_documents(run, document, limit=SIMILAR_SHOWN)
    except NotFoundError:  # the run has no vectors
        similar = None
    return render(request, "similar", run=queries.run_summary(run), document=detail, similar=similar)


RUN_HANDLERS = (document_page, similar_page)
