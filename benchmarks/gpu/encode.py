"""Sparse encode as the indexer calls it, against the bare GEMM that it contains and against eager torch."""

from __future__ import annotations

import torch
from rich.console import Console
from rich.table import Table

from benchmarks.encode import D_SAE, TOP_K, WARM_FLOOR, Inputs, bare_gemm, inputs, to_pairs
from benchmarks.gpu.clock import Timing, timing
from benchmarks.gpu.random_model import device_of
from tegakari.indexer.drawn_pairs import drawn_pairs
from tegakari.indexer.priority import feature_seeds
from tegakari.kernels import add_to_tally, new_tally
from tegakari.kernels.reference import activations
from tegakari.kernels.types import Drawn, Tally, TallyBatch
from tegakari.store.blocks.activations import DROPPED_BITS
from tegakari.store.contexts import WINDOW

POSITIONS = (1024, 4096, 16384)
SMOKE_POSITIONS = (64,)
CHECKED_POSITIONS = 256


DRAWN = 0.03
"""Share of the pairs of a document and a feature that are drawn for contexts, once bounds have narrowed: 80 documents
of the two to three thousand in which a feature of the study is active."""


class IndexerCall:
    """The indexer's call: pools, counts, and candidates, into a tally; the same batch at each call.

    Candidates are the activations at or above a warm floor; with `contexts`, as `index` has them, those in windows of
    them and of the strongest positions of drawn pairs.
    """

    def __init__(self, case: Inputs, *, outliers: bool = False, contexts: bool = False) -> None:
        device = case.residual.device
        positions, documents = len(case.residual), len(case.offsets) - 1
        self._case = case
        self._floor = torch.full((case.encoder.weight.shape[1],), WARM_FLOOR, device=device)
        self._batch = TallyBatch(case.offsets.tolist(), case.offsets, 0, 0)
        self._ordinary = torch.ones(positions, dtype=torch.bool, device=device) if outliers else None
        self._seeds = feature_seeds(0, torch.arange(case.encoder.weight.shape[1], device=device)) if contexts else None
        self._numbers = torch.arange(documents, device=device)
        self._bound = torch.full_like(self._floor, DRAWN * 2.0**58, dtype=torch.int64)  # priorities have 58 bits
        self.tally: Tally = new_tally(case.encoder, documents, positions * case.encoder.weight.shape[1] // 8)

    def __call__(self) -> None:
        candidates = self.tally.candidates
        number = getattr(candidates, "number", None)
        if number is not None:
            number.zero_()
        drawn = None
        if self._seeds is not None:
            drawn = Drawn(drawn_pairs(self._seeds, self._numbers, self._bound), WINDOW, DROPPED_BITS)
        case, batch = self._case, self._batch
        add_to_tally(self.tally, case.residual, case.encoder, batch, self._floor, self._ordinary, drawn)


def check(case: Inputs) -> None:
    """Compare the indexer's call with the reference."""
    part = case._replace(
        residual=case.residual[:CHECKED_POSITIONS], offsets=case.offsets[: 1 + CHECKED_POSITIONS // 128]
    )
    if int(part.offsets[-1]) != len(part.residual):
        return  # a smoke test's batch is one short document; tests/kernels compare those
    call = IndexerCall(part)
    call()
    expected = activations(
        part.residual.cpu(),
        part.encoder._replace(
            **{name: value.cpu() for name, value in part.encoder._asdict().items() if isinstance(value, torch.Tensor)}
        ),
    )
    maxima = torch.stack([rows.amax(0) for rows in expected.split(128)])
    torch.testing.assert_close(call.tally.pooled.max.cpu(), maxima, rtol=1e-3, atol=1e-3)
    counted, reference = int(call.tally.active.sum()), int((expected > 0).sum())
    assert abs(counted - reference) <= max(8, reference // 1000), (counted, reference)


def measure(smoke: bool = False) -> dict[str, float]:
    """Times of encode by batch size: a table, and the figures of 4,096 positions."""
    device = device_of(smoke)
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    figures: dict[str, float] = {}
    table = Table(title="sparse encode", title_justify="left")
    for column in ("positions", "work", "ms", "x bare GEMM", "host ms"):
        table.add_column(column, justify="left" if column == "work" else "right")
    for positions in SMOKE_POSITIONS if smoke else POSITIONS:
        case = inputs(positions).to(device.type, dtype)
        if not smoke:
            check(case)
        top_k = case._replace(encoder=case.encoder._replace(k=TOP_K))
        works = {
            "bare GEMM": bare_gemm(case),
            "encode for the indexer": IndexerCall(case),
            "encode for the indexer, norm outliers": IndexerCall(case, outliers=True),
            "encode for the indexer, norm outliers and contexts": IndexerCall(case, outliers=True, contexts=True),
            f"encode for the indexer, TopK {TOP_K}": IndexerCall(top_k),
            "eager: GEMM, relu, nonzero, gather": lambda case=case: to_pairs(case),
        }
        times: dict[str, Timing] = {name: timing(work, device, 3 if smoke else 20) for name, work in works.items()}
        bare, call, _, contexts, selection, eager = times.values()
        for name, time in times.items():
            ratio = f"{time.device / bare.device:.2f}"
            table.add_row(f"{positions:,}", name, f"{time.device:.3f}", ratio, f"{time.host:.3f}")
        if positions == 4096 or smoke:
            figures = {
                "gpu_encode_over_gemm": call.device / bare.device,
                "gpu_encode_with_contexts_over_gemm": contexts.device / bare.device,
                "gpu_eager_over_encode": eager.device / call.device,
                "gpu_topk_over_gemm": selection.device / bare.device,
                "gpu_encode_host_ms": call.host,
                "gemm_tflops": 2 * positions * case.residual.shape[1] * D_SAE / bare.device / 1e9,
            }
    Console(width=120).print(table)
    return figures
