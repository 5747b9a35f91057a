"""The routes about documents."""

from __future__ import annotations

from litestar import get
from litestar.di import NamedDependency

from tegakari.schemas.api import DocumentDetail, DocumentFeature, DocumentRow, Page
from tegakari.service.http.parameters import (
    Cursor,
    DocumentId,
    FeatureCount,
    OnlyCorrect,
    OnlyLabel,
    OnlyLayer,
    OnlyPredicted,
    PageSize,
)
from tegakari.service.http.problems import documented
from tegakari.store import Run, queries


@get(
    "/documents",
    operation_id="listDocuments",
    summary="Documents of a run",
    responses=documented(400, 404, 500),
    sync_to_thread=True,
)
def list_documents(
    opened: NamedDependency[Run],
    label: OnlyLabel = None,
    predicted: OnlyPredicted = None,
    correct: OnlyCorrect = None,
    limit: PageSize = 50,
    cursor: Cursor = None,
) -> Page[DocumentRow]:
    """Indexed documents by id, with what the classifier said of them."""
    return queries.documents(opened, label=label, predicted=predicted, correct=correct, limit=limit, cursor=cursor)


@get(
    "/documents/{document:str}",
    operation_id="getDocument",
    summary="A document",
    responses=documented(400, 404, 500),
    sync_to_thread=True,
)
def get_document(
    opened: NamedDependency[Run],
    document: DocumentId,
    layer: OnlyLayer = None,
    features: FeatureCount = queries.DETAIL_FEATURES,
) -> DocumentDetail:
    """One document: its text, label and prediction, and the strongest features of each layer."""
    return queries.document(opened, document, layer=layer, features=features)


@get(
    "/documents/{document:str}/features",
    operation_id="listDocumentFeatures",
    summary="Strongest features of a document",
    responses=documented(400, 404, 500),
    sync_to_thread=True,
)
def list_document_features(
    opened: NamedDependency[Run],
    document: DocumentId,
    layer: OnlyLayer = None,
    limit: PageSize = 50,
    cursor: Cursor = None,
) -> Page[DocumentFeature]:
    """The strongest features of each layer, by the run's pooling: by layer, strongest first."""
    return queries.document_features(opened, document, layer=layer, limit=limit, cursor=cursor)


HANDLERS = (list_documents, get_document, list_document_features)
