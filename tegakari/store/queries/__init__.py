"""Every query of a run, by the name that route, client and command line use."""

from tegakari.store.queries.documents import SHOWN_FEATURES, document, document_features, document_number, documents
from tegakari.store.queries.features import (
    Order,
    feature,
    feature_documents,
    feature_histogram,
    feature_labels,
    feature_tokens,
    features,
)
from tegakari.store.queries.labels import label, label_features, labels
from tegakari.store.queries.pairs import DEFAULT_MIN_COSINE, Pairs, similar_pairs
from tegakari.store.queries.parameters import (
    MAX_PAGE,
    Variety,
    check_layer,
    check_limit,
    check_pooling,
    parse_variety,
    place_of,
)
from tegakari.store.queries.runs import evaluation_documents, layer_l0, run_summary, specificity
from tegakari.store.queries.search import decoder_directions, feature_neighbours, search, similar_documents

__all__ = [
    "DEFAULT_MIN_COSINE",
    "MAX_PAGE",
    "SHOWN_FEATURES",
    "Order",
    "Pairs",
    "Variety",
    "check_layer",
    "check_limit",
    "check_pooling",
    "decoder_directions",
    "document",
    "document_features",
    "document_number",
    "documents",
    "evaluation_documents",
    "feature",
    "feature_documents",
    "feature_histogram",
    "feature_labels",
    "feature_neighbours",
    "feature_tokens",
    "features",
    "label",
    "label_features",
    "labels",
    "layer_l0",
    "parse_variety",
    "place_of",
    "run_summary",
    "search",
    "similar_documents",
    "similar_pairs",
    "specificity",
]
