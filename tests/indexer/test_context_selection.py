"""Selection of contexts over shards of any size and order, on every path, against plain Python, to the last bit.

The activations are small integers, so that they do not depend on batches, and most of them are tied.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor

from tegakari.indexer import context_entries
from tegakari.indexer.arrivals import Arrival, Arrivals, Places
from tegakari.indexer.candidate_room import CandidateRoom
from tegakari.indexer.corpus_documents import corpus_documents
from tegakari.indexer.drawn_pairs import drawn_pairs
from tegakari.indexer.layer_contexts import write_layer_contexts
from tegakari.indexer.layer_tally import LayerTally, Union
from tegakari.indexer.partial import DocumentPartial, open_partial, write_partial
from tegakari.indexer.priority import feature_seeds
from tegakari.indexer.shard import IndexedDocument, plan_shards, probe_documents
from tegakari.indexer.top_positions import strongest_positions
from tegakari.kernels import Encoder, Survivors, add_to_tally, dispatch
from tegakari.kernels.tally import of_pairs
from tegakari.kernels.types import CandidateBuffer, CandidateList, CandidateOverflowError, Drawn
from tegakari.models.outliers import ordinary_positions
from tegakari.models.tokens import Tokenized
from tegakari.store.blocks.activations import DROPPED_BITS
from tegakari.store.contexts import WINDOW, FeatureContexts, LayerContexts
from tests.support.kernel_cases import KINDS, exact_case, needs_triton
from tests.support.kernel_oracle import expected
from tests.support.plain_contexts import plain_contexts, plain_probe_bits, plain_probes

LAYER, DOCUMENTS, D_SAE, TOP_TOKENS = 7, 130, 24, 5
ONCE = 20
"""Feature that is active once."""


class Corpus(NamedTuple):
    documents: list[IndexedDocument]
    residuals: list[torch.Tensor]
    encoder: Encoder
    max_norm: float
    activations: list[np.ndarray]
    """of each document, float32 [positions, d_sae]; none at outliers"""


def corpus(kind: str, size: int = DOCUMENTS) -> Corpus:
    """Documents of 1 to 40 tokens, of which some are special; features of any density, one active once, one never."""
    rng = np.random.default_rng(3)
    documents = []
    for number in range(size):
        special = [True, *(rng.random(rng.integers(0, 40)) < 0.1).tolist(), False]
        head = 0 if number % 3 == 0 else None  # out of the order of tokens: its row is the last
        tokens = Tokenized([1] * len(special), [(0, 1)] * len(special), special, False, head)
        documents.append(IndexedDocument(number, f"d{number:03d}", int(rng.integers(0, 4)), "eval", "t", tokens))
    lengths = [len(document.tokens.positions) for document in documents]
    case = exact_case(kind, torch.float32, lengths, 13, D_SAE)
    bias = case.encoder.bias - torch.linspace(0, 24, D_SAE)
    gate_bias = None if case.encoder.gate_bias is None else case.encoder.gate_bias - torch.linspace(0, 40, D_SAE)
    encoder = case.encoder._replace(bias=bias, gate_bias=gate_bias)
    norms = case.residual.norm(dim=1)
    rare, last = int(norms.argmin()), len(encoder.weight) - 1  # a direction of one position and one feature
    case.residual[:, last], encoder.weight[last], encoder.weight[:, ONCE] = 0, 0, 0
    case.residual[rare, last], encoder.weight[last, ONCE], bias[ONCE] = 1, 20, -10
    norms = case.residual.norm(dim=1)
    max_norm = float(norms.sort().values[-20])
    dense = expected(case.residual, encoder, case.offsets, case.floor).dense * (norms <= max_norm).numpy()[:, None]
    ends = case.offsets.tolist()
    parts = [slice(start, stop) for start, stop in pairwise(ends)]
    return Corpus(
        documents,
        [case.residual[part] for part in parts],
        encoder,
        max_norm,
        [dense[part].astype(np.float32) for part in parts],
    )


class BufferedTally(LayerTally):
    """A layer whose candidates are in a buffer of a fixed size, as on a GPU."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.capacity = arguments[-1]
        self.prunings = 0
        self.tally = self.tally._replace(candidates=CandidateBuffer(self.capacity, torch.device("cpu")))

    def add(self, residual: torch.Tensor, arrival: Arrival) -> None:
        buffer = self.tally.candidates
        self.tally = self.tally._replace(candidates=CandidateList())
        assert self._seeds is not None
        add_to_tally(
            self.tally,
            residual,
            self._encoder,
            arrival.batch,
            self.bounds.floor,
            ordinary_positions(residual, self._max_norm),
            Drawn(drawn_pairs(self._seeds, arrival.numbers, self.bounds.drawn), WINDOW, DROPPED_BITS),
        )
        buffer.append(self.tally.candidates.survivors())
        self.tally = self.tally._replace(candidates=buffer)

    def prune(self, arrivals: Arrivals) -> None:
        super().prune(arrivals)
        self.prunings += 1


def selected(
    corpus: Corpus, directory: Path, *, size: int, batch: int, seed: int, carry: bool, capacity: int = 0
) -> tuple[LayerContexts, np.ndarray]:
    """Contexts and probes as an index writes them.

    Args:
        corpus: the documents.
        directory: of the files.
        size: documents per shard.
        batch: documents per batch.
        seed: of the order of shards and batches.
        carry: whether bounds are handed from shard to shard.
        capacity: of a buffer of candidates as on a GPU; 0: a list as on a CPU.
    """
    rng = np.random.default_rng(seed)
    shards = plan_shards(corpus.documents, size, "recipe")
    union = Union.empty(D_SAE, TOP_TOKENS, torch.device("cpu"))
    seeds = feature_seeds(LAYER, torch.arange(D_SAE))
    for place in rng.permutation(len(shards)).tolist():
        shard = shards[place]
        arrivals = Arrivals()
        if not carry:
            union = Union.empty(D_SAE, TOP_TOKENS, torch.device("cpu"))
        tally = (BufferedTally if capacity else LayerTally)(
            corpus.encoder, corpus.max_norm, len(shard.documents), TOP_TOKENS, union.bounds(), seeds, capacity or 2**16
        )
        room = CandidateRoom([tally], arrivals, every_batch=not carry) if capacity else None
        order = [shard.documents[number] for number in rng.permutation(len(shard.documents)).tolist()]
        for first in range(0, len(order), batch):
            documents = order[first : first + batch]
            residual = torch.cat([corpus.residuals[document.number] for document in documents])
            lengths = [len(document.tokens.positions) for document in documents]
            tally.add(residual, arrivals.add(documents, torch.tensor([0, *lengths]).cumsum(0)))
            if room is not None:
                room.make()
            elif tally.tally.candidates.size() - tally.kept > max(50, tally.kept):
                tally.prune(arrivals)
        assert not isinstance(tally, BufferedTally) or tally.prunings > 0
        layer, union = tally.finish(shard, arrivals, arrivals.order, union, "max", "last")
        numbers = np.array([document.number for document in shard.documents], np.int32)
        floats = np.zeros(len(numbers), np.float32)
        predictions = DocumentPartial(numbers, numbers, floats, floats, np.zeros((len(numbers), 2), np.float32))
        write_partial(directory / "shards", shard, len(arrivals.order), {LAYER: layer}, predictions, {})
    partials = [open_partial(directory / "shards", shard.key) for shard in shards]
    merged_documents = corpus_documents(partials)
    parts: list[LayerContexts] = []
    bits: list[np.ndarray] = []
    with pytest.MonkeyPatch.context() as patch:
        module = "tegakari.indexer.layer_contexts."
        patch.setattr(module + "FEATURES_AT_ONCE", 5)
        patch.setattr(module + "write_contexts", lambda *arguments: parts.extend(arguments[-1]))
        patch.setattr(module + "write_probe_bits", lambda *arguments: bits.extend(arguments[2]))
        memory = 30_000  # several ranges of features, and parts of ranges
        strongest = strongest_positions(partials, LAYER, D_SAE, TOP_TOKENS, merged_documents, memory)
        write_layer_contexts(directory, LAYER, D_SAE, partials, merged_documents, strongest, memory)
    columns = zip(*(part.contexts for part in parts), strict=True)
    feature = np.concatenate([part.feature for part in parts])
    return LayerContexts(feature, FeatureContexts(*map(np.concatenate, columns))), np.concatenate(bits)


@pytest.fixture(params=["numba", "torch", "triton"])
def path(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("TEGAKARI_KERNELS", request.param)
    dispatch._path_for.cache_clear()
    if request.param == "triton":
        needs_triton()
    yield request.param
    dispatch._path_for.cache_clear()


@pytest.mark.parametrize("kind", KINDS)
def test_contexts_are_exact_for_any_shards(kind: str, path: str, tmp_path: Path):
    interpreted = path == "triton" and not torch.cuda.is_available()
    if interpreted and kind == "topk":
        pytest.skip("the interpreter takes minutes; tests/kernels/test_tally.py has a smaller case")
    case = corpus(kind, 12 if interpreted else DOCUMENTS)
    expected_contexts = plain_contexts(case.documents, case.activations, LAYER, TOP_TOKENS)
    probes = plain_probes(case.documents)
    assert probe_documents(case.documents) == probes.document.tolist()
    active = plain_probe_bits(case.activations, probes)
    cuts = [
        {"size": 130, "batch": 130, "seed": 0, "carry": True},
        {"size": 32, "batch": 7, "seed": 1, "carry": True},
        {"size": 9, "batch": 4, "seed": 2, "carry": False},
    ]
    if path != "numba":
        cuts = [{"size": 4, "batch": 2, "seed": 1, "carry": True}] if interpreted else cuts[1:2]
    for number, cut in enumerate(cuts):
        contexts, bits = selected(case, tmp_path / str(number), **cut)
        np.testing.assert_array_equal(contexts.feature, expected_contexts.feature)
        for name, column, reference in zip(
            FeatureContexts._fields, contexts.contexts, expected_contexts.contexts, strict=True
        ):
            np.testing.assert_array_equal(column, reference, err_msg=f"{cut} {name}")
        np.testing.assert_array_equal(bits, active)


def on_a_gpu(survivors: Survivors, drawn: Tensor, maximum: Tensor, cut: Tensor, places: Places) -> Survivors:
    """`in_windows` as a GPU computes it."""
    pairs = drawn | ((maximum >= cut) & (maximum > 0))
    return context_entries._in_windows(of_pairs(survivors, pairs, places.row), drawn, maximum, cut, places)


@pytest.mark.parametrize("carry", [False, True], ids=["every batch", "one behind"])
def test_contexts_are_exact_where_a_gpus_buffers_fill(carry: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Candidates are dropped before the buffer overflows, and windows are those of tensor operations."""
    monkeypatch.setattr("tegakari.indexer.layer_tally.in_windows", on_a_gpu)
    case = corpus("relu")
    reference = plain_contexts(case.documents, case.activations, LAYER, TOP_TOKENS)
    contexts, _ = selected(case, tmp_path, size=130, batch=3, seed=1, carry=carry, capacity=8000)
    np.testing.assert_array_equal(contexts.feature, reference.feature)
    for column, expected_column in zip(contexts.contexts, reference.contexts, strict=True):
        np.testing.assert_array_equal(column, expected_column)


@pytest.mark.parametrize("features", [40, 2100], ids=["keys of 32 bits", "of 64"])
def test_windows_of_tensor_operations_are_those_of_loops(features: int):
    """2^20 positions, of which pairs have clusters; integers, of which many are equal."""
    rng = np.random.default_rng(0)
    positions, length = 2**20, 2**14
    of_cluster = rng.integers(0, features, 300), rng.integers(0, positions, 300)
    at = (of_cluster[1][:, None] + rng.integers(0, 40, (300, 25))).clip(max=positions - 1)
    keys = np.unique(of_cluster[0][:, None] << 32 | at)
    rng.shuffle(keys)
    feature, position = torch.from_numpy(keys >> 32), torch.from_numpy(keys & 0xFFFF_FFFF)
    activation = torch.from_numpy(rng.integers(1, 30, len(keys)).astype(np.float32))
    row = torch.arange(positions) // length
    maximum = torch.zeros(positions // length, features)
    np.maximum.at(maximum.numpy(), (row[position].numpy(), feature.numpy()), activation.numpy())
    drawn = (torch.rand(maximum.shape, generator=torch.Generator().manual_seed(0)) < 0.5) & (maximum > 0)
    cut = torch.full((features,), 28.0)
    places = Places(torch.arange(positions, dtype=torch.int32), row, (torch.arange(positions) % length).int())
    survivors = Survivors(feature.int(), position.int(), activation)
    loops, tensors = (
        select(survivors, drawn, maximum, cut, places) for select in (context_entries.in_windows, on_a_gpu)
    )
    assert 0 < len(loops.feature) < 0.8 * len(keys)
    assert all(map(torch.equal, loops, tensors))


def test_a_buffer_that_windows_fill_is_too_small(tmp_path: Path):
    with pytest.raises(CandidateOverflowError):
        selected(corpus("relu"), tmp_path, size=130, batch=4, seed=1, carry=False, capacity=1500)


def test_quotas_are_exact():
    case = corpus("relu")
    contexts = plain_contexts(case.documents, case.activations, LAYER, TOP_TOKENS)
    active = np.stack([values.max(0) > 0 for values in case.activations]).sum(0)
    assert {0, 1} < set(active.tolist())
    assert active.max() > 80
    for feature, documents in enumerate(active.tolist()):
        counts = Counter(contexts.contexts.quantile[contexts.feature == feature].tolist())
        pool = min(documents, 80)
        for tenth in range(10):
            members = pool * (tenth + 1) // 10 - pool * tenth // 10
            assert counts[tenth + 1] == min(2, members)
