"""Files of a run's blocks: names, shapes, and the numbering of features that they share.

Features of all layers are numbered consecutively: *place* = first place of the layer + feature. A matrix [labels,
places] of each statistic, and for each label the places in the order of their d, make "the features of a label" a slice
and a gather, at any depth, and "the labels of a feature" a column. The strongest positions and documents of a feature,
and the strongest features of a document, are rows of matrices. The blocks are derived from the same arrays as the
tables.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from tegakari.schemas.config import Pooling

TOP_DOCUMENTS = 50
"""Strongest documents stored per feature."""

TOP_FEATURES = 20
"""Strongest features stored per document and layer."""

SHOWN_TOKENS = 5
"""Distinct tokens stored per feature for display."""

STATISTICS = ("mean", "sd", "d")
DOCUMENTS_ACTIVE = "documents_active"

FEATURES_FILE = "features.arrow"
TOKEN_TEXTS_FILE = "token_texts.arrow"
DOCUMENTS_FILE = "documents.arrow"
ORDER_FILE = "order.npy"
LAYER_ORDER_FILE = "layer_order.npy"
SHOWN_TOKENS_FILE = "shown_tokens.npy"


def label_column(statistic: str, pooling: Pooling) -> str:
    """Column of the table feature_labels: one of STATISTICS, or DOCUMENTS_ACTIVE, in a pooling."""
    return f"{statistic}_{pooling}"


def statistic_file(statistic: str, pooling: Pooling) -> str:
    """File of one of STATISTICS, or of DOCUMENTS_ACTIVE, for a pooling."""
    return f"{label_column(statistic, pooling)}.npy"


def top_file(subject: str, column: str) -> str:
    """File of one column of the strongest positions ("token"), documents or features.

    Args:
        subject: token, document or feature.
        column: field of TopPositions or Strongest.
    """
    return f"top_{subject}_{column}s.npy"


class TopPositions(NamedTuple):
    """The strongest positions of each feature of a layer, strongest first; [d_sae, n], or of one feature [n]."""

    activation: np.ndarray
    """float32; 0 beyond a feature's last position."""
    document: np.ndarray
    """int32; -1 beyond the last."""
    position: np.ndarray
    """int32"""

    @staticmethod
    def types() -> dict[str, type]:
        """Type of each column."""
        return {"activation": np.float32, "document": np.int32, "position": np.int32}


class Places(NamedTuple):
    """The consecutive numbering of the features of all layers."""

    layers: list[int]
    """indexed layers, ascending."""
    widths: list[int]
    """features of each layer."""

    @property
    def starts(self) -> list[int]:
        """First place of each layer, then the number of places."""
        return [0, *np.cumsum(self.widths).tolist()]

    def slice_of(self, layer: int) -> slice:
        """Places of a layer's features."""
        at = self.layers.index(layer)
        return slice(self.starts[at], self.starts[at + 1])


def descending_order(d: np.ndarray, documents_active: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """Indices by d, largest first; undefined d at the end. int32.

    Equal d are frequent among features that are active in few documents: they go by the documents of the label in
    which the feature is active, then by mean, largest first, then by index.

    Args:
        d: float32 [n].
        documents_active: int [n].
        mean: float32 [n].
    """
    key = np.where(np.isnan(d), np.float32(np.inf), np.float32(0) - d)
    # Bits of floats in the order of integers, above the index: integers are sorted in a tenth of the time.
    bits = key.view(np.int32)
    ascending = (bits ^ ((bits >> 31) & 0x7FFF_FFFF)).astype(np.int64)
    packed = (ascending << 32) | np.arange(len(d), dtype=np.int64)
    packed.sort()
    order = packed.astype(np.int32)  # the lower half
    ordered = key[order]
    equal = (ordered[1:] == ordered[:-1]) & np.isfinite(ordered[1:])
    (ties,) = np.nonzero(np.append(equal, False) | np.append(False, equal))
    tied = order[ties]  # sorted alone: few are tied, and a sort by several keys takes three times as long
    order[ties] = tied[np.lexsort((tied, -mean[tied], -documents_active[tied].astype(np.int64), key[tied]))]
    return order
