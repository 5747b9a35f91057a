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
    best_explanations,
    explanations,
    feature_explanations,
    order_of,
)
from tegakari.store.explanations.term_files import explanations_of_run
from tegakari.store.explanations.term_texts import layer_texts
from tegakari.store.explanations.terms import AUTHOR, LANGUAGES, term_explanations
from tegakari.store.explanations.written import written_log

__all__ = [
    "AUTHOR",
    "LANGUAGES",
    "NewScore",
    "add_explanations",
    "add_scores",
    "best_explanations",
    "delete_explanation",
    "explanations",
    "explanations_of_run",
    "feature_explanations",
    "language_of",
    "layer_texts",
    "one_line",
    "order_of",
    "term_explanations",
    "vote",
    "write_explanation",
    "written_log",
]
