"""Moments of activations, per label.

A shard contributes (n, mean, M2) per label of its documents, pooling and feature. Moments are merged with
Chan's formula and never subtracted: the rest of a label is the merge of all other labels, so that a feature that is
never active outside its label has a rest of exactly zero, and no digits cancel.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Generic, NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor

Array = TypeVar("Array", Tensor, np.ndarray)


class Moments(NamedTuple, Generic[Array]):
    """Count n, mean and sum of squared deviations (M2) of n values, elementwise, float64."""

    n: int
    mean: Array
    m2: Array


def moments_of(values: Tensor) -> Moments[Tensor]:
    """Moments over the first axis, computed in float64 in two passes: [D, ...] -> n = D, mean and M2 [...]."""
    exact = values.double()
    mean = exact.mean(0)
    return Moments(len(exact), mean, (exact - mean).square_().sum(0))


def label_moments(values: Tensor, documents: Iterable[int]) -> list[Moments[Tensor]]:
    """Moments of each label.

    Args:
        values: [D, ...], ordered by label.
        documents: number of documents of each label; D in all.
    """
    return [moments_of(part) for part in values.split(list(documents))]


def merge(a: Moments[Array], b: Moments[Array]) -> Moments[Array]:
    """Moments of the union of two sets of values (Chan, Golub and LeVeque 1979)."""
    if a.n == 0 or b.n == 0:
        return b if a.n == 0 else a
    n = a.n + b.n
    delta = b.mean - a.mean
    return Moments(n, a.mean + delta * (b.n / n), a.m2 + b.m2 + delta * delta * (a.n * b.n / n))


def zero_moments(shape: Sequence[int], device: torch.device | str = "cpu") -> Moments[Tensor]:
    """Moments of an empty set, with mean and M2 of a shape."""
    zeros = torch.zeros(tuple(shape), dtype=torch.float64, device=device)
    return Moments(0, zeros, zeros.clone())
