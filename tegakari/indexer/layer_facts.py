"""Properties of a layer that its shards do not hold, and its row of the table layers."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pyarrow as pa

from tegakari.models.explained_variance import LayerQuality
from tegakari.models.outliers import finite_limit


class LayerFacts(NamedTuple):
    """Properties of a layer that its shards do not hold."""

    d_model: int
    d_sae: int
    architecture: str
    max_norm: float | None
    """as of `Sae.max_norm`"""
    quality: LayerQuality | None
    """None: not measured."""


def layer_rows(layer: int, facts: LayerFacts, active: np.ndarray, positions: int, outliers: int) -> pa.Table:
    """The row of the table layers.

    Args:
        layer: the layer.
        facts: of the layer.
        active: int64 [d_sae], positions at which each feature is active.
        positions: positions of all documents, outliers included.
        outliers: those that are norm outliers in the layer.
    """
    quality = facts.quality or LayerQuality(0, None, 0, 0, None, 0, None)
    return pa.table(
        {
            "layer": [layer],
            "d_model": [facts.d_model],
            "d_sae": [facts.d_sae],
            "architecture": [facts.architecture],
            "positions": [positions],
            "outlier_positions": [outliers],
            "max_norm": pa.array([finite_limit(facts.max_norm)], pa.float64()),
            "l0": [active.sum() / max(1, positions - outliers)],
            "alive": [int((active > 0).sum())],
            "explained_variance": pa.array([quality.explained_variance], pa.float64()),
            "explained_variance_all": pa.array([quality.explained_variance_all], pa.float64()),
            "outlier_variance": pa.array([quality.outlier_variance], pa.float64()),
            "explained_variance_positions": [quality.positions],
        }
    )
