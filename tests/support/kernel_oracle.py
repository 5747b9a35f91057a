"""Independent implementation of sparse encode: numpy in float64, a loop over positions and features."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tegakari.kernels import Encoder


@dataclass(frozen=True)
class Expected:
    """The parts of `Encoded` as numpy arrays and Python lists."""

    dense: NDArray[np.float64]
    last: NDArray[np.float64]
    max: NDArray[np.float64]
    mean: NDArray[np.float64]
    count: NDArray[np.int64]
    total: NDArray[np.float64]
    maximum: NDArray[np.float64]
    survivors: list[tuple[int, int, float]]


def expected(residual, encoder: Encoder, offsets, floor=None) -> Expected:
    """Result that encode has to return. Operands are rounded to the encoder's dtype, then computed with in float64."""
    h = residual.to(encoder.weight.dtype).double().numpy()
    products = h @ encoder.weight.double().numpy() * _factors(residual.double().numpy(), encoder)
    bias, threshold = encoder.bias.double().numpy(), encoder.threshold.double().numpy()
    dense = np.zeros_like(products)
    for position, row in enumerate(products):
        active_features = []
        for feature, y in enumerate(row):
            if encoder.gate_scale is not None and encoder.gate_bias is not None:
                value = y * float(encoder.gate_scale[feature]) + float(encoder.gate_bias[feature])
                active = y + bias[feature] > 0 and value > 0
            else:
                value = y + bias[feature]
                active = value > threshold[feature]
            if active:
                active_features.append((-value, feature))
        for negated, feature in sorted(active_features)[: encoder.k]:
            dense[position, feature] = -negated
    documents = [dense[a:b] for a, b in zip(offsets[:-1].tolist(), offsets[1:].tolist(), strict=True)]
    survivors = []
    if floor is not None:
        for position, feature in np.argwhere(dense > 0):
            if dense[position, feature] >= float(floor[feature]):
                survivors.append((int(feature), -dense[position, feature], int(position)))
    return Expected(
        dense=dense,
        last=np.stack([document[-1] for document in documents]),
        max=np.stack([document.max(0) for document in documents]),
        mean=np.stack([document.mean(0) for document in documents]),
        count=(dense > 0).sum(0),
        total=dense.sum(0),
        maximum=dense.max(0),
        survivors=[(feature, position, -negated) for feature, negated, position in sorted(survivors)],
    )


def _factors(h: NDArray[np.float64], encoder: Encoder) -> NDArray[np.float64]:
    """Factors [T, 1] of the input norm, as SAELens' `sae.py` states them."""
    centred = h - h.mean(1, keepdims=True) * encoder.centred
    match encoder.input_norm:
        case "constant_norm":
            return np.sqrt(h.shape[1]) / np.linalg.norm(centred, axis=1, keepdims=True)
        case "layer_norm":
            return 1 / (h.std(1, ddof=1, keepdims=True) + 1e-5)
    return np.ones((len(h), 1))
