"""Routes of documents: the list, one document, its features, documents like it."""

from __future__ import annotations

from tegakari.schemas.api import DocumentDetail, DocumentFeature, DocumentMatch, DocumentRow, Page
from tegakari.service.http.operations import read
from tegakari.service.http.parameters import (
    CorrectFilter,
    Cursor,
    DocumentId,
    FeatureCount,
    LabelFilter,
    LayerFilter,
    OpenRun,
    PageSize,
    PredictedFilter,
)
from tegakari.store import queries


@read("/documents", "listDocuments", "Documents of a run")
def list_documents(
    run: OpenRun,
    label: LabelFilter = None,
    predicted: PredictedFilter = None,
    correct: CorrectFilter = None,
    limit: PageSize = 50,
    cursor: Cursor = None,
) -> Page[DocumentRow]:
    """Indexed documents by id, with the label that the classifier predicts."""
    return queries.documents(run, label=label, predicted=predicted, correct=correct, limit=limit, cursor=cursor)


@read("/documents/{document:str}", "getDocument", "A document")
def get_document(
    run: OpenRun,
    document: DocumentId,
    layer: LayerFilter = None,
    features: FeatureCount = queries.DETAIL_FEATURES,
) -> DocumentDetail:
    """One document: its text, label and prediction, and the strongest features of each layer."""
    return queries.document(run, document, layer=layer, features=features)


@read("/documents/{document:str}/features", "listDocumentFeatures", "Strongest features of a document")
def list_document_features(
    run: OpenRun, document: DocumentId, layer: LayerFilter = None, limit: PageSize = 50, cursor: Cursor = None
) -> Page[DocumentFeature]:
    """The strongest features of each layer, by the run's pooling: by layer, strongest first."""
    return queries.document_features(run, document, layer=layer, limit=limit, cursor=cursor)


# Vectors can be added to a run later.
@read("/documents/{document:str}/similar", "listSimilarDocuments", "Documents like a document", changes=True)
def list_similar_documents(run: OpenRun, document: DocumentId, limit: PageSize = 20) -> Page[DocumentMatch]:
    """Documents by the cosine of their embeddings with this one's, exact, nearest first."""
    return Page(queries.similar_documents(run, document, limit=limit))


RUN_HANDLERS = (list_documents, get_document, list_document_features, list_similar_documents)
