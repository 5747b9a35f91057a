"""Feature sets of forms, and what survives of one when another is excluded."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import permutations
from typing import NamedTuple

import numpy as np

from tegakari.schemas.variants import Concept


class Pairs(NamedTuple):
    """Ordered pairs of texts: the first one's features are excluded from the second's."""

    excluded: np.ndarray
    """int64 [P], numbers of texts"""
    kept: np.ndarray
    """int64 [P]"""
    group: np.ndarray
    """int64 [P], what a pair belongs to: its concept, or for unrelated ones itself"""


def pairs_within(concepts: Sequence[Concept], first: Sequence[int | None]) -> Pairs:
    """All ordered pairs of different forms of a concept.

    Args:
        concepts: whose forms have texts in a row.
        first: number of the text of each concept's first form; None: it has none.
    """
    rows = [
        (start + i, start + j, group)
        for group, (concept, start) in enumerate(zip(concepts, first, strict=True))
        if start is not None
        for i, j in permutations(range(len(concept.forms)), 2)
    ]
    return Pairs(*np.array(rows, np.int64).reshape(-1, 3).T)


def pairs_across(concepts: Sequence[Concept], n: int, seed: int) -> Pairs:
    """Drawn ordered pairs of forms of different concepts."""
    owner = np.repeat(np.arange(len(concepts)), [len(concept.forms) for concept in concepts])
    first, second = np.nonzero(owner[:, None] != owner)
    chosen = np.random.default_rng(seed).permutation(len(first))[:n]
    return Pairs(first[chosen], second[chosen], np.arange(len(chosen)))


def survivals(strongest: np.ndarray, pairs: Pairs, k: int) -> np.ndarray:
    """`|F_k(j) - F_k(i)| / |F_k(j)|` of the sets, for each pair (i excluded, j kept).

    Args:
        strongest: int [texts, n], n >= k: features of each text by activation, strongest first; -1: no more active.
        pairs: of texts.
        k: size of the sets.

    Returns:
        float64 [P]; NaN where F_k(j) is empty.
    """
    kept, excluded = strongest[pairs.kept, :k], strongest[pairs.excluded, :k]
    there = kept >= 0
    shared = (kept[:, :, None] == excluded[:, None, :]).any(2) & there
    size = there.sum(1)
    return np.divide((there & ~shared).sum(1), size, out=np.full(len(size), np.nan), where=size > 0)


def group_means(values: np.ndarray, pairs: Pairs, groups: int) -> np.ndarray:
    """Mean over the pairs of each group that have a value, float64 [groups]; NaN for a group without."""
    some = ~np.isnan(values)
    counts = np.bincount(pairs.group[some], minlength=groups)
    sums = np.bincount(pairs.group[some], values[some], groups)
    return np.divide(sums, counts, out=np.full(groups, np.nan), where=counts > 0)
