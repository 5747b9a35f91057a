"""Assignments of labels to documents: permutations of the labels, and halves of the documents."""

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


def half_samples(label: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Labels of random halves of the documents, half of each label's; the others have -1.

    Args:
        label: int [documents].
        count: number of halves.
        seed: of the draws.

    Returns:
        [count, documents].
    """
    generator = np.random.default_rng([seed, 1])
    halves = np.full((count, len(label)), -1, label.dtype)
    for half in halves:
        shuffled = generator.permutation(len(label))
        by_label = shuffled[np.argsort(label[shuffled], kind="stable")]
        # Every second document of the sorted ones; of a label with an odd number, one more or one fewer.
        kept = by_label[generator.integers(2) :: 2]
        half[kept] = label[kept]
    return halves
