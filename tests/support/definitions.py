"""Statistics of a drawn case, computed straight from their definitions."""

from __future__ import annotations

import numpy as np

from tegakari.schemas.config import Pooling
from tests.support.factories import Case


def label_ids(case: Case) -> np.ndarray:
    """int64 [documents]: class of each document."""
    return np.array([document.label_id for document in case.documents])


def cohens_d(case: Case, layer: int, pooling: Pooling) -> np.ndarray:
    """float64 [labels, d_sae]: a label's documents against all others, with the pooled standard deviation."""
    pooled, labels = case.pooled(layer, pooling).astype(np.float64), label_ids(case)
    d = []
    for label in range(len(case.labels)):
        inside, outside = pooled[labels == label], pooled[labels != label]
        freedom = len(inside) - 1, len(outside) - 1
        variance = (freedom[0] * inside.var(0, ddof=1) + freedom[1] * outside.var(0, ddof=1)) / sum(freedom)
        difference = inside.mean(0) - outside.mean(0)
        d.append(np.divide(difference, np.sqrt(variance), out=np.zeros_like(difference), where=variance > 0))
    return np.array(d)


def varieties(case: Case, layer: int, pooling: Pooling, cutoff: float = 1.0) -> np.ndarray:
    """int64 [d_sae]: labels for which a feature's d is above the cut-off."""
    return (cohens_d(case, layer, pooling) > cutoff).sum(0)


def activations_by_position(case: Case, layer: int) -> np.ndarray:
    """float32 [positions, d_sae] of all documents."""
    return np.concatenate(case.activations[layer])
