"""Survival: the share of a form's features that remains without the features of another form."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import permutations
from typing import NamedTuple

import numpy as np

from tegakari.schemas.variants import Concept


class TextPairs(NamedTuple):
    """Ordered pairs of texts: the features of one are excluded from those of the other."""

    excluded: np.ndarray
    """int64 [P], numbers of the texts whose features are excluded"""
    remaining: np.ndarray
    """int64 [P], numbers of the texts whose features remain"""
    group: np.ndarray
    """int64 [P], group of each pair: its concept, or for unrelated forms the pair itself"""


def pairs_within(concepts: Sequence[Concept], first: Sequence[int | None]) -> TextPairs:
    """All ordered pairs of different forms of a concept.

    Args:
        concepts: the texts of a concept's forms have consecutive numbers.
        first: number of the text of each concept's first form; None for a concept without texts.
    """
    rows = [
        (start + i, start + j, group)
        for group, (concept, start) in enumerate(zip(concepts, first, strict=True))
        if start is not None
        for i, j in permutations(range(len(concept.forms)), 2)
    ]
    return TextPairs(*np.array(rows, np.int64).reshape(-1, 3).T)


def pairs_across(concepts: Sequence[Concept], n: int, seed: int) -> TextPairs:
    """Up to n ordered pairs of forms of different concepts, drawn at random; each is a group."""
    concept_of_form = np.repeat(np.arange(len(concepts)), [len(concept.forms) for concept in concepts])
    first, second = np.nonzero(concept_of_form[:, None] != concept_of_form)
    drawn = np.random.default_rng(seed).permutation(len(first))[:n]
    return TextPairs(first[drawn], second[drawn], np.arange(len(drawn)))


def survivals(strongest: np.ndarray, pairs: TextPairs, k: int) -> np.ndarray:
    """`|F_k(j) - F_k(i)| / |F_k(j)|` for each pair, where i is excluded, j remains, F_k is the set of k features.

    Args:
        strongest: int [texts, n], n >= k, features of each text, by activation; -1 where fewer are active.
        pairs: of texts.
        k: size of the feature sets.

    Returns:
        float64 [P]; NaN where F_k(j) is empty.
    """
    remaining, excluded = strongest[pairs.remaining, :k], strongest[pairs.excluded, :k]
    active = remaining >= 0
    shared = (remaining[:, :, None] == excluded[:, None, :]).any(2) & active
    size = active.sum(1)
    return np.divide((active & ~shared).sum(1), size, out=np.full(len(size), np.nan), where=size > 0)


def group_means(values: np.ndarray, pairs: TextPairs, groups: int) -> np.ndarray:
    """Mean of each group over its pairs with a value, float64 [groups]; NaN for a group without a value.

    Args:
        values: float64 [P], of the pairs; NaN: no value.
        pairs: with their groups.
        groups: number of groups.
    """
    has_value = ~np.isnan(values)
    counts = np.bincount(pairs.group[has_value], minlength=groups)
    sums = np.bincount(pairs.group[has_value], values[has_value], groups)
    return np.divide(sums, counts, out=np.full(groups, np.nan), where=counts > 0)
