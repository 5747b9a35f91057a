"""Features that tell a label's rightly predicted documents from those that are predicted as another label."""

from __future__ import annotations

import msgspec
import numpy as np

from tegakari.store import Run, queries

CANDIDATES = 25
"""Features of the largest d of each of the two labels that are compared."""


class SeparatingFeature(msgspec.Struct, frozen=True, kw_only=True):
    """A feature whose pooled activation differs between two groups of documents of one label."""

    layer: int
    feature: int
    label: str
    """the label whose features it belongs to, by d"""
    right: float
    """mean pooled activation over the documents that are predicted as their label"""
    wrong: float
    """mean pooled activation over the documents that are predicted as the other"""
    cohens_d: float | None
    """of the rightly predicted documents against the others, standard deviation weighted by the numbers of documents
    (Cohen 1988); null without variance, or with a group of fewer than 2 documents"""
    top_tokens: list[str]


def separating_features(run: Run, label: str, predicted: str) -> list[SeparatingFeature]:
    """Candidate features of both labels, the largest |d| first.

    Args:
        run: the run.
        label: own label of the documents.
        predicted: another label, which the classifier gives some of them.

    Raises:
        NotFoundError: no such label.
    """
    documents = run.blocks.documents
    own, other = run.label_id(label), run.label_id(predicted)
    right = np.flatnonzero((documents.label_id == own) & (documents.predicted_id == own))
    wrong = np.flatnonzero((documents.label_id == own) & (documents.predicted_id == other))
    rows: dict[tuple[int, int], SeparatingFeature] = {}
    for name in (label, predicted):
        for candidate in queries.label_features(run, name, limit=CANDIDATES).items:
            place = candidate.layer, candidate.feature
            if place in rows:
                continue
            activations = run.activations_of(*place)
            pooled = np.zeros(len(documents.label_id))
            pooled[activations.document] = activations.activation
            rows[place] = SeparatingFeature(
                layer=candidate.layer,
                feature=candidate.feature,
                label=name,
                right=float(pooled[right].mean()) if len(right) else 0.0,
                wrong=float(pooled[wrong].mean()) if len(wrong) else 0.0,
                cohens_d=_cohens_d(pooled[right], pooled[wrong]),
                top_tokens=candidate.top_tokens,
            )
    return sorted(rows.values(), key=lambda row: (-abs(row.cohens_d or 0.0), row.layer, row.feature))


def _cohens_d(a: np.ndarray, b: np.ndarray) -> float | None:
    if min(len(a), len(b)) < 2:
        return None
    variance = ((len(a) - 1) * a.var(ddof=1) + (len(b) - 1) * b.var(ddof=1)) / (len(a) + len(b) - 2)
    return float((a.mean() - b.mean()) / np.sqrt(variance)) if variance > 0 else None
