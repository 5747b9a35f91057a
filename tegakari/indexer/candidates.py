"""Candidates for the strongest positions of every feature, as a shard contributes them."""

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
