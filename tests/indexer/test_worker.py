"""A worker on a GPU's path: as a CPU's, whatever its floors; no wait per layer and batch. Kernels are interpreted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from tegakari.indexer.corpus import read_manifest
from tegakari.indexer.index_models import load_models
from tegakari.indexer.pipeline import _documents
from tegakari.indexer.shard import plan_shards
from tegakari.indexer.worker import ShardResult, Worker
from tegakari.kernels import dispatch
from tegakari.kernels.types import CandidateBuffer
from tests.support.kernel_cases import needs_triton
from tests.support.small_case import SmallCase

WAITS = ("_local_scalar_dense", "nonzero", "masked_select", "unique", "item", "is_nonzero", "equal")
"""Operators that return a value or a size to the host, for which it waits for a GPU."""


class CountedWaits(TorchDispatchMode):
    """Counts the operators that make the host wait."""

    def __init__(self) -> None:
        super().__init__()
        self.waits: Counter[str] = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        masked = name in ("index", "index_put_") and any(
            isinstance(index, torch.Tensor) and index.dtype == torch.bool for index in args[1]
        )
        if name in WAITS or masked:
            self.waits[name] += 1
        return func(*args, **(kwargs or {}))


@pytest.fixture(scope="module")
def triton() -> Iterator[None]:
    needs_triton()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TEGAKARI_KERNELS", "triton")
        dispatch._path_for.cache_clear()
        yield
    dispatch._path_for.cache_clear()


@pytest.fixture(scope="module")
def inputs(small_case: SmallCase):
    config = small_case.config
    classifier, saes = load_models(config)
    documents, _ = _documents(config, classifier, read_manifest(Path(config.corpus.path)))
    return classifier, saes, plan_shards(documents[:10], 5, "recipe")


@pytest.fixture(scope="module")
def reference(inputs, triton: None) -> tuple[Worker, list[ShardResult]]:
    """A worker after all shards, in the interpreter, and its results."""
    worker = worker_of(inputs)
    return worker, [worker.index(shard) for shard in inputs[2]]


def worker_of(inputs) -> Worker:
    classifier, saes, _ = inputs
    return Worker(classifier, saes, pooling="max", top_tokens=5, batch_tokens=32)


def assert_equal(result: ShardResult, other: ShardResult) -> None:
    """Equality to the order of sums; candidates aside, of which a later floor leaves fewer."""
    for layer, partial in result.layers.items():
        reference = other.layers[layer]
        for name in ("mean", "m2", "total"):
            np.testing.assert_allclose(getattr(partial, name), getattr(reference, name), rtol=1e-4, atol=1e-5)
        for name in ("documents_active", "active"):
            np.testing.assert_array_equal(getattr(partial, name), getattr(reference, name))
        np.testing.assert_array_equal(partial.activations.feature, reference.activations.feature)
        np.testing.assert_array_equal(partial.activations.document, reference.activations.document)
        assert partial.outliers == reference.outliers
    for column, reference in zip(result.documents, other.documents, strict=True):
        np.testing.assert_allclose(column, reference, rtol=1e-4, atol=1e-5)


def test_a_gpus_path_gives_what_a_cpus_gives(
    inputs, reference: tuple[Worker, list[ShardResult]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEGAKARI_KERNELS", "numba")
    dispatch._path_for.cache_clear()
    worker = worker_of(inputs)
    for shard, result in zip(inputs[2], reference[1], strict=True):
        assert_equal(result, worker.index(shard))
    dispatch._path_for.cache_clear()


def test_candidates_that_do_not_fit_are_found_again(
    inputs, reference: tuple[Worker, list[ShardResult]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tegakari.indexer.worker.capacity_of", lambda *sizes, **_: 1024)
    worker = worker_of(inputs)
    for shard, expected in zip(inputs[2], reference[1], strict=True):
        assert_equal(worker.index(shard), expected)
    assert worker._capacity_factor > 1


def test_the_host_does_not_wait_and_a_shard_that_did_not_fit_in_one_layer_counts_once(
    inputs, reference: tuple[Worker, list[ShardResult]]
) -> None:
    """In a shard after the first, nothing of a layer, batch or document is read before `finish`.

    Twice the same activations among the strongest would be a bound that is too high, and lose candidates.
    """
    first, second = inputs[2]
    worker = worker_of(inputs)
    worker.index(first)
    with CountedWaits() as counted:
        work = worker.start(second)
    assert len(work.outputs) > 2
    assert not counted.waits, counted.waits
    candidates = work.layers[max(work.layers)].tally.candidates
    assert isinstance(candidates, CandidateBuffer)
    candidates.number.fill_(candidates.capacity + 1)
    with CountedWaits() as counted:
        result = worker.finish(work)
    assert counted.waits
    assert worker._capacity_factor == 2
    expected = reference[1][1]
    for layer, union in reference[0]._unions.items():
        assert all(torch.equal(*pair) for pair in zip(worker._unions[layer], union, strict=True))
        columns = zip(result.layers[layer].candidates, expected.layers[layer].candidates, strict=True)
        assert all(np.array_equal(*pair) for pair in columns)
