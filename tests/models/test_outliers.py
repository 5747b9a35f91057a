"""Norm outliers: the rule on drawn norms, and encode without them against dense numpy."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import torch

from tegakari.kernels import Encoder
from tegakari.kernels.ordinary import encode_ordinary
from tegakari.kernels.types import RowSelection
from tegakari.models.outliers import norm_limit, ordinary_positions
from tegakari.schemas.errors import KernelError

D_MODEL, D_SAE = 16, 24
OFFSETS = [0, 3, 4, 9, 10, 15]
OUTLIERS = {
    "first of each": [0, 4, 10],
    "head of the last": [14],
    "a whole document": [3, 9],
    "several": [2, 3, 4, 8, 12],
    "all": list(range(15)),
    "none": [],
}


@pytest.mark.parametrize("spread", [0.05, 0.15, 0.5])
def test_the_rule_finds_sinks_and_no_ordinary_position(spread: float):
    rng = np.random.default_rng(0)
    ordinary = torch.tensor(150 * np.exp(spread * rng.normal(size=8000)), dtype=torch.float32)
    assert norm_limit(ordinary) == math.inf
    sinks = torch.full((150,), 25_064.0)
    limit = norm_limit(torch.cat([ordinary, sinks]))
    assert float(ordinary.max()) < limit < 25_064
    # As in a model with BOS: 12 positions of 5,072, and at 8 times the ordinary norm.
    few = torch.cat([ordinary[:5060], torch.full((12,), 150 * max(8, math.exp(6 * spread)))])
    assert int((few > norm_limit(few)).sum()) == 12
    assert norm_limit(1000 * few) == pytest.approx(1000 * norm_limit(few), rel=1e-5)


def test_short_documents_whose_every_fifth_position_is_a_sink():
    norms = torch.cat([torch.linspace(100, 200, 400), torch.full((100,), 9000.0)])
    assert 200 < norm_limit(norms) < 9000


def encoder(k: int | None = None) -> Encoder:
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(D_MODEL, D_SAE, generator=generator)
    return Encoder(weight, 0.1 * torch.randn(D_SAE, generator=generator), torch.zeros(D_SAE), k=k)


def dense(residual: torch.Tensor, encoder: Encoder, outliers: list[int]) -> np.ndarray:
    """Activations of all positions in float64, zeros at outliers."""
    a = np.maximum(residual.double().numpy() @ encoder.weight.double().numpy() + encoder.bias.double().numpy(), 0)
    if encoder.k:
        a[np.arange(len(a))[:, None], np.argsort(-a, axis=1)[:, encoder.k :]] = 0
    a[outliers] = 0
    return a


def assert_close(actual: torch.Tensor | np.ndarray, expected: object) -> None:
    np.testing.assert_allclose(np.asarray(actual), np.asarray(expected), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("k", [None, 5], ids=["relu", "topk"])
@pytest.mark.parametrize("rows", ["last", "all", "none"])
@pytest.mark.parametrize("name", OUTLIERS)
def test_encode_without_outliers(name: str, rows: RowSelection, k: int | None):
    outliers = OUTLIERS[name]
    residual = torch.randn(OFFSETS[-1], D_MODEL, generator=torch.Generator().manual_seed(1))
    residual[outliers] *= 1000
    ordinary = ordinary_positions(residual, 50.0)
    assert ordinary is not None
    assert (~ordinary).nonzero()[:, 0].tolist() == outliers
    floor = torch.full((D_SAE,), 0.5)
    encoded = encode_ordinary(residual, encoder(k), torch.tensor(OFFSETS), ordinary, rows=rows, floor=floor)
    a = dense(residual, encoder(k), outliers)
    documents = [slice(start, end) for start, end in pairwise(OFFSETS)]
    keep = np.setdiff1d(np.arange(len(a)), outliers)

    def ordinary_of(document: slice) -> np.ndarray:
        return a[[row for row in range(document.start, document.stop) if row in keep]]

    assert_close(encoded.pooled.last, [a[document][-1] for document in documents])
    assert_close(encoded.pooled.max, [a[document].max(0) for document in documents])
    means = [ordinary_of(document).mean(0) if len(ordinary_of(document)) else np.zeros(D_SAE) for document in documents]
    assert_close(encoded.pooled.mean, means)
    assert encoded.columns.count.tolist() == (a > 0).sum(0).tolist()
    assert_close(encoded.columns.total, a.sum(0))
    assert_close(encoded.columns.maximum, a.max(0))
    assert encoded.survivors is not None
    feature, position, activation = encoded.survivors.trimmed()
    assert sorted(zip(position.tolist(), feature.tolist(), strict=True)) == [
        (int(row), int(column)) for row, column in zip(*np.nonzero(a >= 0.5), strict=True)
    ]
    assert_close(activation, a[position, feature])
    if rows == "none":
        assert encoded.rows is None
        return
    assert encoded.rows is not None
    selected = a if rows == "all" else a[[document.stop - 1 for document in documents]]
    indptr, feature, activation = encoded.rows.trimmed()
    assert len(indptr) == len(selected) + 1
    result = np.zeros_like(selected)
    result[np.repeat(np.arange(len(selected)), np.diff(indptr)), feature] = activation
    assert_close(result, selected)


def test_residuals_that_are_not_finite_are_refused_not_left_out():
    residual = torch.randn(6, D_MODEL)
    residual[2, 3] = math.inf
    ordinary = ordinary_positions(residual, 50.0)
    assert ordinary is not None
    assert bool(ordinary.all())
    with pytest.raises(KernelError, match="holds inf"):
        encode_ordinary(residual, encoder(), torch.tensor([0, 6]), ordinary).check()


def test_a_layer_without_a_limit_has_no_outliers():
    assert ordinary_positions(torch.randn(3, 4), None) is None
    assert ordinary_positions(torch.randn(3, 4), math.inf) is None
