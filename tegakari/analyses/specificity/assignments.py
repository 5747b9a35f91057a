"""Assignments of labels to documents: the labels themselves, and permutations of them."""

from __future__ import annotations

import numpy as np


def permutations(label: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Labels permuted over the documents, so that every label keeps its number of documents.

    Args:
        label: int [documents].
        count: number of permutations.
        seed: of the draws.

    Returns:
        [count, documents].
    """
    generator = np.random.default_rng(seed)
    return np.stack([generator.permutation(label) for _ in range(count)])
