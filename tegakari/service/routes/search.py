"""The routes that say what lies near: features by decoder direction, documents by embedding, documents by words."""

from __future__ import annotations

from typing import Annotated

from litestar import get
from litestar.datastructures import CacheControlHeader
from litestar.di import NamedDependency
from litestar.params import QueryParameter

from tegakari.schemas.api import DocumentMatch, FeatureNeighbour, Page
from tegakari.schemas.config import NAME_PATTERN
from tegakari.service.http.etags import open_run
from tegakari.service.http.parameters import DocumentId, FeatureNumber, LayerNumber, OnlyLayer, PageSize, optional
from tegakari.service.http.problems import documented
from tegakari.store import Run, Store, queries

# Vectors can be added to a run later, and the run that is searched can be another.
_ASK_AGAIN = CacheControlHeader(no_cache=True)

SearchedRun = Annotated[
    str | None,
    optional("run that is searched; default: the feature's own", "in", type="string", pattern=NAME_PATTERN),
]
SearchedText = Annotated[str, QueryParameter(description="words to search for", min_length=1, max_length=1000)]


@get(
    "/layers/{layer:str}/features/{feature:str}/neighbours",
    operation_id="listFeatureNeighbours",
    summary="Neighbours of a feature",
    responses=documented(400, 404, 500),
    cache_control=_ASK_AGAIN,
    sync_to_thread=True,
)
def list_feature_neighbours(
    opened: NamedDependency[Run],
    store: NamedDependency[Store],
    layer: LayerNumber,
    feature: FeatureNumber,
    searched: SearchedRun = None,
    in_layer: OnlyLayer = None,
    limit: PageSize = 20,
) -> Page[FeatureNeighbour]:
    """Features whose decoder directions have the largest cosine with this one's, exact; of this run or of another."""
    within = open_run(store, searched, field="in") if searched is not None else None
    return Page(queries.feature_neighbours(opened, layer, feature, within=within, in_layer=in_layer, limit=limit))


@get(
    "/documents/{document:str}/similar",
    operation_id="listSimilarDocuments",
    summary="Documents like a document",
    responses=documented(400, 404, 500),
    cache_control=_ASK_AGAIN,
    sync_to_thread=True,
)
def list_similar_documents(
    opened: NamedDependency[Run], document: DocumentId, limit: PageSize = 20
) -> Page[DocumentMatch]:
    """Documents by the cosine of their embeddings with this one's, exact, nearest first."""
    return Page(queries.similar_documents(opened, document, limit=limit))


@get(
    "/search",
    operation_id="searchDocuments",
    summary="Search of documents",
    responses=documented(400, 404, 500),
    cache_control=_ASK_AGAIN,
    sync_to_thread=True,
)
def search_documents(opened: NamedDependency[Run], q: SearchedText, limit: PageSize = 20) -> Page[DocumentMatch]:
    """Documents that hold the words, best first by BM25; words are found in Japanese too."""
    return Page(queries.search(opened, q, limit=limit))


HANDLERS = (list_feature_neighbours, list_similar_documents, search_documents)
