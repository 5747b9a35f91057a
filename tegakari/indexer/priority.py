"""Order in which documents are drawn, by hash: it does not depend on shards, workers or the order of documents.

The functions take int64 tensors or arrays and compute the same numbers for both, on any device.
"""

from __future__ import annotations

from typing import TypeVar

import numpy as np
from torch import Tensor

Integers = TypeVar("Integers", Tensor, np.ndarray)
"""int64"""

DOCUMENT_BITS = 26
"""Bits of a document's number, below those of a hash: equal hashes are ordered by document."""

NEVER = 2**63 - 1
"""A priority behind all others."""

STEP = 0x9E3779B97F4A7C15 - 2**64
"""Increment of SplitMix64, as int64."""

FACTORS = 0xBF58476D1CE4E5B9 - 2**64, 0x94D049BB133111EB - 2**64
"""Factors of its finalizer."""

_PROBES = -(2**63)


def seeds(numbers: Integers) -> Integers:
    """The numbers-th outputs of SplitMix64 (Steele, Lea and Flood 2014) with seed 0."""
    return _mixed((numbers + 1) * STEP)


def feature_seeds(layer: int, features: Integers) -> Integers:
    """Seeds of features of a layer."""
    return seeds(features + ((layer + 1) << 32))


def pair_priorities(feature_seeds: Integers, documents: Integers) -> Integers:
    """Priority of pairs of a feature and a document, of any shapes that broadcast: int64, smallest first.

    Args:
        feature_seeds: from `feature_seeds`.
        documents: numbers of documents.
    """
    return ((_mixed(feature_seeds ^ seeds(documents)) >> 32) & 0xFFFF_FFFF) << DOCUMENT_BITS | documents


def probe_priorities(documents: np.ndarray) -> np.ndarray:
    """Order in which the documents of a label become probes, int64."""
    return pair_priorities(seeds(np.array([_PROBES])), documents)


def _mixed(number: Integers) -> Integers:
    """The finalizer of SplitMix64. Shifts of negative numbers fill with ones, which the masks remove."""
    number = (number ^ ((number >> 30) & (2**34 - 1))) * FACTORS[0]
    number = (number ^ ((number >> 27) & (2**37 - 1))) * FACTORS[1]
    return number ^ ((number >> 31) & (2**33 - 1))
