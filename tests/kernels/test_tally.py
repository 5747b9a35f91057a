"""A tally of several batches against the oracle over all their positions, on every path."""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import chain, pairwise

import numpy as np
import pytest
import torch

from tegakari.kernels import add_to_tally, dispatch, finish_tally, new_tally
from tegakari.kernels.types import CandidateBuffer, CandidateOverflowError, Drawn, Tally, TallyBatch
from tegakari.store.blocks.activations import DROPPED_BITS, rounded
from tegakari.store.contexts import WINDOW
from tests.support.kernel_cases import DEVICE, KINDS, Case, exact_case, needs_triton
from tests.support.kernel_oracle import expected

LENGTHS = [[3, 1, 9], [2], [17, 1]]
D_SAE = 139


@pytest.fixture(params=["numba", "torch", "triton"])
def device(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[torch.device]:
    monkeypatch.setenv("TEGAKARI_KERNELS", request.param)
    dispatch._path_for.cache_clear()
    if request.param == "triton":
        needs_triton()
    yield DEVICE if request.param == "triton" else torch.device("cpu")
    dispatch._path_for.cache_clear()


def batches(kind: str, dtype: torch.dtype = torch.float32) -> list[Case]:
    """Batches of one SAE."""
    cases = [exact_case(kind, dtype, lengths, 13, D_SAE, seed=seed) for seed, lengths in enumerate(LENGTHS)]
    return [case._replace(encoder=cases[0].encoder, floor=cases[0].floor) for case in cases]


def tally_of(
    cases: list[Case],
    device: torch.device,
    ordinary: list[torch.Tensor] | None,
    capacity: int,
    drawn: torch.Tensor | None = None,
) -> Tally:
    encoder = cases[0].encoder
    encoder = encoder._replace(
        **{name: value.to(device) for name, value in encoder._asdict().items() if isinstance(value, torch.Tensor)}
    )
    tally = new_tally(encoder, sum(map(len, LENGTHS)), capacity)
    document = position = 0
    for number, case in enumerate(cases):
        batch = TallyBatch(case.offsets.tolist(), case.offsets.to(device), document, position)
        mask = None if ordinary is None else ordinary[number].to(device)
        stop = document + len(case.offsets) - 1
        pairs = None if drawn is None else Drawn(drawn[document:stop].to(device), WINDOW, DROPPED_BITS)
        add_to_tally(tally, case.residual.to(device), encoder, batch, case.floor.to(device), mask, pairs)
        document, position = stop, position + len(case.residual)
    return finish_tally(tally)


@pytest.mark.parametrize("outliers", [False, True], ids=["all positions", "ordinary positions"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_tally_is_exact(kind: str, outliers: bool, device: torch.device) -> None:
    if kind == "topk" and not outliers and os.environ["TEGAKARI_KERNELS"] == "triton" and device.type == "cpu":
        pytest.skip("the interpreter takes seconds; test_parity.py has all positions of TopK")
    cases = batches(kind)
    residual = torch.cat([case.residual for case in cases])
    offsets = torch.tensor([0, *chain.from_iterable(LENGTHS)]).cumsum(0)
    ordinary = torch.ones(len(residual), dtype=torch.bool)
    if outliers:  # the last position of a document, all of another, and some at random
        ordinary &= torch.rand(len(residual), generator=torch.Generator().manual_seed(1)) > 0.3
        ordinary[offsets[1] - 1] = False
        ordinary[offsets[1] : offsets[2]] = False
    masks = list(ordinary.split([sum(lengths) for lengths in LENGTHS])) if outliers else None
    tally = tally_of(cases, device, masks, 10_000)
    oracle = expected(residual, cases[0].encoder, offsets, cases[0].floor)
    dense = oracle.dense * ordinary.numpy()[:, None]
    documents = [
        (dense[a:b], ordinary[a:b].numpy()) for a, b in zip(offsets[:-1].tolist(), offsets[1:].tolist(), strict=True)
    ]
    np.testing.assert_array_equal(tally.pooled.last.cpu(), np.stack([rows[-1] for rows, _ in documents]))
    np.testing.assert_array_equal(tally.pooled.max.cpu(), np.stack([rows.max(0) for rows, _ in documents]))
    means = np.stack([rows.sum(0) / max(1, mask.sum()) for rows, mask in documents])
    np.testing.assert_allclose(tally.pooled.mean.cpu(), means, rtol=1e-6)
    assert tally.positions.tolist() == [mask.sum() for _, mask in documents]
    np.testing.assert_array_equal(tally.active.cpu(), (dense > 0).sum(0))
    np.testing.assert_array_equal(tally.total.cpu(), dense.sum(0))
    assert int(tally.fault) == 0
    survivors = tally.candidates.survivors()
    triples = sorted(zip(*(column.tolist() for column in survivors), strict=True))
    assert triples == sorted(triple for triple in oracle.survivors if ordinary[triple[1]])


def candidates_of(column: np.ndarray, floor: float, drawn: bool, apart: bool, windows: bool) -> np.ndarray:
    """Rows of a pair that become candidates, from its activations: on a GPU those in windows, on a CPU all or none."""
    rows = np.arange(len(column))
    centres = column >= floor
    if drawn:
        centres |= rounded(np.maximum(column, 1e-9)) == rounded(column.max()[None])
    centres &= column > 0
    if not windows:
        return np.flatnonzero((column > 0) & centres.any())
    near = (np.abs(rows[:, None] - rows[centres]) <= WINDOW).any(axis=1)
    if apart and centres.any():
        near |= centres[-1] | (rows == len(rows) - 1)
    return np.flatnonzero((column > 0) & near)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "topk"])  # whose cuts the marks have
def test_candidates_of_pairs_are_in_windows(kind: str, device: torch.device) -> None:
    """Of pairs that are drawn, and of those that reach the floor with one position."""
    cases = batches(kind)
    residual = torch.cat([case.residual for case in cases])
    lengths = [*chain.from_iterable(LENGTHS)]
    offsets = torch.tensor([0, *lengths]).cumsum(0)
    ordinary = torch.rand(len(residual), generator=torch.Generator().manual_seed(1)) > 0.2
    drawn = torch.rand(len(lengths), D_SAE, generator=torch.Generator().manual_seed(2)) < 0.1
    masks = list(ordinary.split([sum(lengths) for lengths in LENGTHS]))
    dense = expected(residual, cases[0].encoder, offsets, cases[0].floor).dense * ordinary.numpy()[:, None]
    floor = torch.full((D_SAE,), float(np.quantile(dense[dense > 0], 0.8)))
    cases = [case._replace(floor=floor) for case in cases]
    candidates = tally_of(cases, device, masks, 100_000, drawn).candidates.survivors()
    windows = dispatch.backend(device) == "triton"
    wanted = []
    for document, (start, stop) in enumerate(pairwise(offsets.tolist())):
        for feature in range(D_SAE):
            column = dense[start:stop, feature].astype(np.float32)
            rows = candidates_of(column, float(floor[feature]), bool(drawn[document, feature]), False, windows)
            wanted += [(feature, start + row, float(column[row])) for row in rows.tolist()]
    assert len(wanted) < np.count_nonzero(dense)
    assert sorted(zip(*(column.tolist() for column in candidates), strict=True)) == sorted(wanted)


@pytest.mark.parametrize("candidates", ["entries", "windows", "windows with a row apart"])
def test_documents_longer_than_a_tile_of_a_gpu(candidates: str, device: torch.device) -> None:
    """Of 32, 33, 70 and 5 rows: the marks of a tile use all bits of an integer, and windows reach into other tiles."""
    case = exact_case("relu", torch.float32, [32, 33, 70, 5], 13, D_SAE)
    ends = case.offsets.tolist()
    bias = case.encoder.bias + 5000  # every entry is active; when they are stored, many are equal
    encoder = case.encoder._replace(bias=bias)
    dense = expected(case.residual, encoder, case.offsets, None).dense.astype(np.float32)
    encoder = encoder._replace(
        **{name: value.to(device) for name, value in encoder._asdict().items() if isinstance(value, torch.Tensor)}
    )
    pairs, apart = candidates != "entries", candidates.endswith("apart")
    floor = torch.tensor(np.quantile(dense, 0.99 if pairs else 0.97, axis=0), dtype=torch.float32)
    drawn = (torch.arange(4)[:, None] + torch.arange(D_SAE)) % 2 == 0
    tally = new_tally(encoder, 4, 20_000)
    batch = TallyBatch(ends, case.offsets.to(device), 0, 0, apart=apart)
    of_pairs = Drawn(drawn.to(device), WINDOW, DROPPED_BITS) if pairs else None
    add_to_tally(tally, case.residual.to(device), encoder, batch, floor.to(device), None, of_pairs)
    windows = dispatch.backend(device) == "triton"
    wanted = []
    for feature in range(D_SAE):
        least = float(floor[feature])
        for document, (start, stop) in enumerate(pairwise(ends)):
            column = dense[start:stop, feature]
            rows = np.flatnonzero(column >= least)
            if pairs:
                rows = candidates_of(column, least, bool(drawn[document, feature]), apart, windows)
            wanted += [(feature, start + row, float(column[row])) for row in rows.tolist()]
    assert 0 < len(wanted) < dense.size
    assert sorted(zip(*(column.tolist() for column in tally.candidates.survivors()), strict=True)) == sorted(wanted)


@pytest.mark.parametrize("pairs", [False, True], ids=["entries", "pairs"])
def test_candidates_beyond_the_buffer_are_noticed(pairs: bool, device: torch.device) -> None:
    if dispatch.backend(device) != "triton":
        pytest.skip("only a GPU has a buffer")
    drawn = torch.ones(len([*chain.from_iterable(LENGTHS)]), D_SAE, dtype=torch.bool) if pairs else None
    tally = tally_of(batches("relu"), device, None, 20, drawn)
    assert isinstance(tally.candidates, CandidateBuffer)
    assert tally.candidates.size() > 20
    with pytest.raises(CandidateOverflowError):
        tally.candidates.survivors()


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_a_gpu_names_the_document_of_a_fault(value: float, device: torch.device) -> None:
    if dispatch.backend(device) != "triton":
        pytest.skip("other paths raise at once")
    cases = batches("relu")
    cases[2].residual[16, 3] = value  # of the document before the last
    tally = tally_of(cases, device, None, 10_000)
    assert int(tally.fault) == 5
