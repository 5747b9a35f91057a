"""Candidates for the strongest positions of every feature, and entries of contexts, as a shard contributes them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Candidates(NamedTuple):
    """Positions that can be among the strongest of their feature; parallel arrays."""

    feature: np.ndarray
    """int32."""
    activation: np.ndarray
    """float32."""
    document: np.ndarray
    """int32."""
    position: np.ndarray
    """int32, token index in the document."""


class ContextEntries(NamedTuple):
    """Activations in the windows of positions that can become contexts, by (feature, document, position)."""

    feature: np.ndarray
    """int32."""
    document: np.ndarray
    """int32."""
    position: np.ndarray
    """int32, token index in the document."""
    activation: np.ndarray
    """float32."""
