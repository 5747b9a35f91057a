"""Queries of a run, by the names that routes, client and command line use.

Most are gathered from the memory-mapped blocks; the others are SQL with bound parameters.
"""

from tegakari.store.queries.analyses import analyses, analysis
from tegakari.store.queries.comparison import compare
from tegakari.store.queries.documents import DETAIL_FEATURES, document, document_features, document_number, documents
from tegakari.store.queries.feature_contexts import feature_contexts, window_texts
from tegakari.store.queries.features import (
    feature,
    feature_documents,
    feature_histogram,
    feature_labels,
    feature_tokens,
    features,
)
from tegakari.store.queries.label_effects import feature_effects, label_effects
from tegakari.store.queries.labels import label, label_features, labels
from tegakari.store.queries.pairs import DEFAULT_MIN_COSINE, Pairs, similar_pairs
from tegakari.store.queries.parameters import (
    MAX_PAGE,
    check_layer,
    check_limit,
    check_pooling,
    feature_place,
)
from tegakari.store.queries.runs import evaluation_documents, layer_l0, remote_summary, run_summary, specificity
from tegakari.store.queries.search import (
    decoder_directions,
    document_embeddings,
    feature_neighbours,
    search,
    similar_documents,
)

__all__ = [
    "DEFAULT_MIN_COSINE",
    "DETAIL_FEATURES",
    "MAX_PAGE",
    "Pairs",
    "analyses",
    "analysis",
    "check_layer",
    "check_limit",
    "check_pooling",
    "compare",
    "decoder_directions",
    "document",
    "document_embeddings",
    "document_features",
    "document_number",
    "documents",
    "evaluation_documents",
    "feature",
    "feature_contexts",
    "feature_documents",
    "feature_effects",
    "feature_histogram",
    "feature_labels",
    "feature_neighbours",
    "feature_place",
    "feature_tokens",
    "features",
    "label",
    "label_effects",
    "label_features",
    "labels",
    "layer_l0",
    "remote_summary",
    "run_summary",
    "search",
    "similar_documents",
    "similar_pairs",
    "specificity",
    "window_texts",
]
