"""Cohen's d over parts of the documents: by the definition, and as the index computes it."""

from __future__ import annotations

import numpy as np
import pytest

from tegakari.analyses.label_d import PooledActivations, label_d, pooled_activations
from tegakari.store import Run


def by_definition(values: np.ndarray, label: np.ndarray, labels: int) -> np.ndarray:
    d = np.full((labels, values.shape[1]), np.nan)
    for number in range(labels):
        a, b = values[label == number], values[(label >= 0) & (label != number)]
        if len(a) < 2 or not len(b):
            continue
        pooled = ((len(a) - 1) * a.var(0, ddof=1) + ((b - b.mean(0)) ** 2).sum(0)) / (len(a) + len(b) - 2)
        with np.errstate(divide="ignore", invalid="ignore"):
            d[number] = (a.mean(0) - b.mean(0)) / np.sqrt(pooled)
        d[number, ~values[label >= 0].any(0)] = 0
    return d


def sparse(values: np.ndarray) -> PooledActivations:
    document, feature = np.nonzero(values)
    return PooledActivations(len(values), values.shape[1], document, feature, values[document, feature])


@pytest.mark.parametrize("seed", range(5))
def test_d_is_that_of_the_definition(seed: int) -> None:
    generator = np.random.default_rng(seed)
    values = np.maximum(generator.normal(size=(60, 30)) + generator.normal(size=30), 0) * 10 ** generator.normal(
        size=30
    )
    label = generator.integers(-1, 4, 60)
    np.testing.assert_allclose(label_d(sparse(values), label, 4), by_definition(values, label, 4), rtol=1e-9, atol=1e-9)


def test_d_is_undefined_where_the_definition_is() -> None:
    values = np.zeros((6, 3))
    values[:3, 0] = 1.0  # equal within each side, and different between them
    values[:, 1] = 2.0  # equal everywhere
    label = np.array([0, 0, 0, 1, 1, 2])
    d = label_d(sparse(values), label, 3)
    assert np.isnan(d[0, 0])
    assert d[0, 1] == 0
    assert (d[:2, 2] == 0).all()  # never active
    assert np.isnan(d[2]).all()  # a label with one document


def test_d_over_all_documents_is_that_of_the_index(run: Run) -> None:
    label = np.asarray(run.blocks.documents.label_id)
    stored = run.blocks.statistics["d", run.manifest.pooling]
    for layer in run.manifest.saes.layers:
        d = label_d(pooled_activations(run, layer), label, len(run.labels))
        d[:, run.blocks.features["active_positions"][run.blocks.places.slice_of(layer)] == 0] = np.nan
        # Stored activations are rounded; d of the index is of the exact ones.
        np.testing.assert_allclose(d, stored[:, run.blocks.places.slice_of(layer)], rtol=2e-2, atol=2e-3)
