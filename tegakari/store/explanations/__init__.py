"""Explanations of features: the deterministic ones of a run, and beside it those of people and language models."""

from tegakari.store.explanations.changes import (
    NewScore,
    add_explanations,
    add_scores,
    delete_explanation,
    language_of,
    one_line,
    vote,
    write_explanation,
)
from tegakari.store.explanations.listing import (
    DETERMINISTIC_AUTHOR,
    best_explanations,
    explanations,
    feature_explanations,
    order_of,
)
from tegakari.store.explanations.written import written_log

__all__ = [
    "DETERMINISTIC_AUTHOR",
    "NewScore",
    "add_explanations",
    "add_scores",
    "best_explanations",
    "delete_explanation",
    "explanations",
    "feature_explanations",
    "language_of",
    "one_line",
    "order_of",
    "vote",
    "write_explanation",
    "written_log",
]
