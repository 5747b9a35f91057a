"""Whether a device computes what a CPU does: the gate before all measurements.

    parity_attention_excess    largest difference of the kernel of attention from float64, over the bound that the
                               operands' precision sets; absent where Triton cannot run
    parity_tallies             tallies of integers, in which every sum is exact, that were compared to the last bit
    parity_index_difference    largest difference of an index in float32 from a CPU's: of densities and strongest
                               activations of features, and logits of documents, each over the largest of its kind
    parity_bfloat16_difference the same in bfloat16; absent on a CPU
    parity_files_that_differ   files of two indexes by the same device

A difference above its limit ends the measurements.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np
import torch
from torch import Tensor

from benchmarks.case import SMALL, make_case
from benchmarks.gpu.index import content
from benchmarks.gpu.random_model import device_of
from tegakari.indexer.arrivals import Places
from tegakari.indexer.context_entries import in_windows
from tegakari.indexer.pipeline import index
from tegakari.kernels import Encoder, Survivors, add_to_tally, finish_tally, new_tally
from tegakari.kernels.types import CandidateList, Drawn, Tally, TallyBatch
from tegakari.schemas.config import Config
from tegakari.store.blocks.activations import DROPPED_BITS
from tegakari.store.contexts import WINDOW
from tegakari.store.reader import Run
from tests.support.attention_cases import attention_case

KINDS = ("relu", "jumprelu", "topk", "gated")
LENGTHS = [3, 32, 1, 200, 65]
D_MODEL, D_SAE = 64, 300
LIMITS = {"float32": 5e-3, "bfloat16": 0.1}
"""Largest difference of an index from a CPU's in float32. One position more or less of a feature's is up to 1e-3."""


def measure(smoke: bool = False) -> dict[str, float]:
    """Compare tallies and an index of a small case.

    Raises:
        AssertionError: the device differs.
    """
    device = device_of(smoke)
    figures: dict[str, float] = {"parity_tallies": tallies_compared(device)}
    if device.type == "cuda":  # tests/kernels compare the interpreted kernel
        figures["parity_attention_excess"] = attention_excess(device)
    return figures | index_figures(device, smoke=smoke)


def attention_excess(device: torch.device) -> float:
    """Compare the kernel of attention with float64 at the shapes of Gemma 2: 2b and 27b, with and without a window."""
    excess = 0.0
    for lengths, size, heads, window in product(
        ([512, 164, 1], [65, 64], [1]), (128, 256), ((8, 4), (2, 2)), (None, 64, 4096)
    ):
        case = attention_case(lengths, size=size, dtype=torch.bfloat16, device=device, heads=heads, window=window)
        excess = max(excess, case.excess())
        assert excess <= 1, f"attention, lengths {lengths}, heads {heads} of {size}, window {window}: {excess:.2g}"
    return excess


def tallies_compared(device: torch.device) -> int:
    """Compare tallies of a device with a CPU's; returns their number."""
    cases = list(product(KINDS, (False, True), (False, True)))
    for kind, outliers, pairs in cases:
        ours, cpu = (_tally(kind, place, outliers=outliers, pairs=pairs) for place in (device, torch.device("cpu")))
        for name, (actual, expected) in _values(ours, cpu):
            exact = name != "mean"  # a sum is exact, its division by the number of positions is rounded
            same = torch.equal(actual, expected) if exact else torch.allclose(actual, expected, rtol=1e-6)
            assert same, f"{kind}, outliers {outliers}, pairs {pairs}: {name} differs from a CPU's"
    return len(cases)


def _values(ours: Tally, cpu: Tally) -> Iterator[tuple[str, tuple[Tensor, Tensor]]]:
    """Results by name, of both tallies; candidates sorted."""
    for name in ("last", "max", "mean"):
        yield name, (getattr(ours.pooled, name).cpu(), getattr(cpu.pooled, name))
    for name in ("positions", "active", "total"):
        yield name, (getattr(ours, name).cpu(), getattr(cpu, name))
    yield "candidates", (_sorted(ours), _sorted(cpu))


def _sorted(tally: Tally) -> Tensor:
    feature, position, activation = (column.cpu() for column in tally.candidates.survivors())
    order = (feature.long() << 32 | position.long()).argsort()
    return torch.stack([feature[order].float(), position[order].float(), activation[order]])


def _tally(kind: str, device: torch.device, *, outliers: bool, pairs: bool) -> Tally:
    """A tally of small integers: products and sums are exact in bfloat16, and there are many ties."""
    random = torch.Generator().manual_seed(0)

    def integers(low: int, high: int, *shape: int) -> Tensor:
        return torch.randint(low, high + 1, shape, generator=random).float()

    offsets = torch.tensor([0, *LENGTHS]).cumsum(0)
    positions = int(offsets[-1])
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    residual, weight = integers(-3, 3, positions, D_MODEL), integers(-2, 2, D_MODEL, D_SAE)
    bias, threshold = integers(-20, 2, D_SAE), integers(0, 5, D_SAE)
    scale, shift, floor = integers(1, 4, D_SAE) / 2, integers(-3, 3, D_SAE), integers(30, 70, D_SAE)
    ordinary, drawn = integers(0, 9, positions) > 0, integers(0, 9, len(LENGTHS), D_SAE) == 0
    gated = kind == "gated"
    encoder = Encoder(
        weight.to(device, dtype),
        bias.to(device),
        (threshold if kind == "jumprelu" else torch.zeros(D_SAE)).to(device),
        16 if kind == "topk" else None,
        scale.to(device) if gated else None,
        shift.to(device) if gated else None,
    )
    tally = new_tally(encoder, len(LENGTHS), positions * D_SAE)
    batch = TallyBatch(offsets.tolist(), offsets.to(device), 0, 0)
    add_to_tally(
        tally,
        residual.to(device, dtype),
        encoder,
        batch,
        floor.to(device),
        ordinary.to(device) if outliers else None,
        Drawn(drawn.to(device), WINDOW, DROPPED_BITS) if pairs else None,
    )
    tally = finish_tally(tally)
    if not pairs:
        return tally
    # A GPU brings what is in windows of rows, a CPU all of the pairs: both are cut as an index cuts them.
    survivors = Survivors(*(column.cpu() for column in tally.candidates.survivors()))
    order = torch.arange(positions)
    row = torch.repeat_interleave(torch.arange(len(LENGTHS)), offsets.diff())
    places = Places(order.int(), row, (order - offsets[row]).int())
    maximum = tally.pooled.max.cpu()
    candidates = CandidateList()
    candidates.append(in_windows(survivors, drawn & (maximum > 0), maximum, floor, places))
    return tally._replace(candidates=candidates)


def index_figures(device: torch.device, *, smoke: bool) -> dict[str, float]:
    """Differences of an index from a CPU's, and from itself."""
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory)
        shape = SMALL._replace(layers=2) if smoke else SMALL
        config = make_case(root, shape, 12 if smoke else 120, labels=4)
        reference = _index(config, root / "cpu", "cpu", "float32")
        dtypes: tuple[Literal["float32", "bfloat16"], ...] = ("float32",)
        dtypes += () if device.type == "cpu" else ("bfloat16",)
        figures: dict[str, float] = {}
        different = 0
        for dtype in dtypes:
            stores = [root / f"{dtype}-{number}" for number in range(2)]
            runs = [_index(config, store, device.type, dtype) for store in stores[: 1 if smoke else 2]]
            runs += [reference] if smoke else []
            first, second = (content(run.directory) for run in runs)
            different += sum(first[name] != second.get(name) for name in first)
            difference = _difference(runs[0], reference)
            assert difference <= LIMITS[dtype], f"an index in {dtype} differs from a CPU's by {difference:.2g}"
            figures[f"parity_{'index' if dtype == 'float32' else dtype}_difference"] = difference
        assert not different, f"{different} files of two indexes by the same device differ"
        return figures | {"parity_files_that_differ": different}


def _index(config: Config, store: Path, device: str, dtype: Literal["float32", "bfloat16"]) -> Run:
    settings = msgspec.structs.replace(config.index, store=str(store), device=device, dtype=dtype)
    index(msgspec.structs.replace(config, index=settings))
    return Run(store / "runs" / config.index.run)


def _difference(run: Run, reference: Run) -> float:
    """Largest difference of a figure, over the largest figure of its kind."""
    ratios = []
    for query in (
        "SELECT density FROM features ORDER BY layer, feature",
        "SELECT max_activation FROM features ORDER BY layer, feature",
        "SELECT label_logit FROM documents ORDER BY document",
    ):
        actual, expected = (part.query(query).column(0).to_numpy() for part in (run, reference))
        ratios.append(float(np.abs(actual - expected).max() / np.abs(expected).max()))
    return max(ratios)
