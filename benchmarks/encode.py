"""Sparse encode against the bare GEMM under it, and against what others would run in its place.

    python -m benchmarks.encode [--positions 1024] [--repeats 15] [--processor-time]

Every contender runs once a round, one after the other; a figure is the median over rounds of its time over the bare
GEMM's of the same round, so that a slow spell of the machine hits both. Nothing is timed before it has been compared
with the reference. SAELens and sparsify run in a process and an environment of their own, in the same rounds; the
environment is made when there is none (--no-peers leaves them out). The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from benchmarks.environments import ENCODERS
from benchmarks.machine import add_clock_option, clock_of, machine, rounded
from benchmarks.peer import Peer
from benchmarks.peer_encoders import make_weights
from tegakari.kernels import Encoded, Encoder, backend, encode
from tegakari.kernels.reference import reference_encode
from tegakari.kernels.types import EncodeInputs

D_MODEL, D_SAE, DOCUMENT = 2304, 9216, 128
WARM_FLOOR = 0.945
"""Passes a tenth of the active pairs, as a top-100 does after some ten thousand positions."""
TOP_K = 64
PEERS = {"SAELens: encode, to_sparse_csr": "sae-lens", f"sparsify: encode, TopK {TOP_K}": "sparsify"}
"""As they are called in the table, and what they are asked by."""

console = Console(width=120)
warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta")


class Inputs(NamedTuple):
    residual: Tensor
    encoder: Encoder
    offsets: Tensor

    def to(self, device: str, dtype: torch.dtype) -> Inputs:
        weight, bias, threshold = self.encoder[:3]
        moved = Encoder(weight.to(device, dtype), bias.to(device), threshold.to(device))
        return Inputs(self.residual.to(device, dtype), moved, self.offsets.to(device))


class Timing(NamedTuple):
    """Times of one contender, seconds, a round each."""

    name: str
    seconds: list[float]

    def over(self, other: Timing) -> float:
        return statistics.median(a / b for a, b in zip(self.seconds, other.seconds, strict=True))


def inputs(positions: int) -> Inputs:
    residual, weight, bias = make_weights(positions, D_MODEL, D_SAE)
    offsets = torch.arange(0, positions + DOCUMENT, DOCUMENT).clamp(max=positions)
    return Inputs(residual, Encoder(weight, bias, torch.zeros(D_SAE)), offsets)


def check(case: Inputs) -> float:
    """Compare all outputs with the reference; returns the active features of a position."""
    floor = torch.full((D_SAE,), WARM_FLOOR, device=case.residual.device)
    found = encode(*case, rows="all", floor=floor)
    want = reference_encode(EncodeInputs(*case, rows="all", floor=floor))
    for mine, theirs in zip(found.pooled, want.pooled, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-3, atol=1e-4)
    assert found.rows is not None
    assert want.rows is not None
    assert found.survivors is not None
    assert want.survivors is not None
    # Sums in another order may move a value over the threshold or the floor, never many.
    for mine, theirs in ((found.rows, want.rows), (found.survivors, want.survivors)):
        n, m = len(mine.trimmed().feature), len(theirs.feature)
        assert abs(n - m) <= max(8, m // 200), (n, m)
    return float(want.columns.count.sum()) / len(case.residual)


def to_csr(case: Inputs) -> Tensor:
    return torch.relu_(case.residual @ case.encoder.weight + case.encoder.bias).to_sparse_csr()


def to_pairs(case: Inputs) -> tuple[Tensor, Tensor]:
    """What most indexers do: dense activations, `nonzero`, gather."""
    activation = torch.relu_((case.residual @ case.encoder.weight).add_(case.encoder.bias))
    at = activation.nonzero()
    return at, activation[at[:, 0], at[:, 1]]


def bare_gemm(case: Inputs) -> Callable[[], Tensor]:
    """The library's product into a buffer that is there: nothing that encodes can be faster."""
    product = torch.empty(len(case.residual), D_SAE, dtype=case.encoder.weight.dtype, device=case.residual.device)
    return lambda: torch.mm(case.residual, case.encoder.weight, out=product)


def rounds(contenders: dict[str, Callable[[], float]], repeats: int) -> dict[str, Timing]:
    """Run all contenders in turn; each returns the seconds it took."""
    taken: dict[str, list[float]] = {name: [] for name in contenders}
    for number in range(repeats + 1):
        for name, contender in contenders.items():
            seconds = contender()
            if number:  # the first round compiles and touches memory
                taken[name].append(seconds)
    return {name: Timing(name, seconds) for name, seconds in taken.items()}


def on_the_host(work: Callable[[], Any], clock: str) -> Callable[[], float]:
    now = getattr(time, clock)

    def run() -> float:
        start = now()
        work()
        return now() - start

    return run


def on_the_gpu(work: Callable[[], Any]) -> Callable[[], float]:
    def run() -> float:
        start, stop = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        work()
        stop.record()
        stop.synchronize()
        return start.elapsed_time(stop) / 1000

    return run


def shown(title: str, timings: Iterable[Timing], base: Timing) -> None:
    table = Table(title=title, title_justify="left")
    for column in ("", "median ms", "fastest ms", "x bare GEMM"):
        table.add_column(column, justify="left" if not column else "right")
    for timing in timings:
        milliseconds = [f"{value * 1e3:.2f}" for value in (statistics.median(timing.seconds), min(timing.seconds))]
        table.add_row(timing.name, *milliseconds, f"{timing.over(base):.3f}")
    console.print(table)


def ours(case: Inputs, **options: Any) -> Callable[[], Encoded]:
    return lambda: encode(*case, **options)


def cpu(positions: int, repeats: int, clock: str, *, peers: bool) -> dict[str, float | None]:
    case = inputs(positions)
    timed = partial(on_the_host, clock=clock)
    base = "bare GEMM, float32"
    active = check(case)
    warm, cold = torch.full((D_SAE,), WARM_FLOOR), torch.zeros(D_SAE)
    contenders = {
        base: timed(bare_gemm(case)),
        "encode: last rows, pools, columns, survivors": timed(ours(case, floor=warm)),
        "encode: all rows, pools, columns, survivors": timed(ours(case, rows="all", floor=warm)),
        "encode: last rows, pools, columns, every pair a survivor": timed(ours(case, floor=cold)),
        f"encode: TopK {TOP_K}": timed(ours(case._replace(encoder=case.encoder._replace(k=TOP_K)), floor=warm)),
        "GEMM, relu, to_sparse_csr": timed(lambda: to_csr(case)),
        "GEMM, relu, nonzero, gather": timed(lambda: to_pairs(case)),
    }
    halved = case.to("cpu", torch.bfloat16)
    check(halved)
    contenders["encode, bfloat16 weights (widened)"] = timed(ours(halved, floor=warm))
    peer = (
        Peer(ENCODERS.make(), "benchmarks.peer_encoders", (positions, D_MODEL, D_SAE, TOP_K, clock)) if peers else None
    )
    if peer is not None:
        console.print(peer.version)
        contenders |= {name: partial(peer.ask, question) for name, question in PEERS.items()}
    timings = rounds(contenders, repeats)
    title = f"{positions} positions, {D_MODEL} -> {D_SAE}, {active:.0f} active, {torch.get_num_threads()} threads"
    shown(title, timings.values(), timings[base])
    mine = timings["encode: last rows, pools, columns, survivors"]
    result: dict[str, float | None] = {
        "cpu_encode_over_gemm": mine.over(timings[base]),
        "cpu_csr_over_encode": timings["GEMM, relu, to_sparse_csr"].over(mine),
        "cpu_nonzero_over_encode": timings["GEMM, relu, nonzero, gather"].over(mine),
        "saelens_over_cpu_encode": None,
        "sparsify_over_cpu_encode_top_k": None,
    }
    if peer is not None:
        peer.close()
        sae_lens, sparsify = (timings[name] for name in PEERS)
        result["saelens_over_cpu_encode"] = sae_lens.over(mine)
        result["sparsify_over_cpu_encode_top_k"] = sparsify.over(timings[f"encode: TopK {TOP_K}"])
    return result


def gpu(positions: int, repeats: int) -> dict[str, float | None]:
    """Four times the positions: a GPU is fed larger batches."""
    if not torch.cuda.is_available():
        return {"gpu_encode_over_gemm": None, "gpu_eager_over_encode": None}
    from tegakari.kernels.gpu.encode import gpu_encode

    case = inputs(4 * positions).to("cuda", torch.bfloat16)
    active = check(case)
    warm = torch.full((D_SAE,), WARM_FLOOR, device="cuda")
    base = "bare GEMM, bfloat16"
    timings = rounds(
        {
            base: on_the_gpu(bare_gemm(case)),
            f"encode ({backend('cuda')})": on_the_gpu(ours(case, floor=warm)),
            "encode, gemm path": on_the_gpu(partial(gpu_encode, EncodeInputs(*case, floor=warm), fused=False)),
            "encode, fused path": on_the_gpu(partial(gpu_encode, EncodeInputs(*case, floor=warm), fused=True)),
            "encode, all rows": on_the_gpu(ours(case, rows="all", floor=warm)),
            "GEMM, relu, nonzero, gather": on_the_gpu(lambda: to_pairs(case)),
        },
        repeats,
    )
    title = f"{torch.cuda.get_device_name()}: {4 * positions} positions, {D_MODEL} -> {D_SAE}, {active:.0f} active"
    shown(title, timings.values(), timings[base])
    mine = timings[f"encode ({backend('cuda')})"]
    return {
        "gpu_encode_over_gemm": mine.over(timings[base]),
        "gpu_eager_over_encode": timings["GEMM, relu, nonzero, gather"].over(mine),
    }


def main(given: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Sparse encode against the bare GEMM and against others.")
    parser.add_argument("--positions", type=int, default=1024, help="rows of the residual")
    parser.add_argument("--repeats", type=int, default=15, help="rounds that are timed")
    parser.add_argument("--no-peers", action="store_true", help="without SAELens and sparsify")
    add_clock_option(parser)
    arguments = parser.parse_args(given)
    result = cpu(arguments.positions, arguments.repeats, clock_of(arguments), peers=not arguments.no_peers) | gpu(
        arguments.positions, arguments.repeats
    )
    sys.stdout.write(json.dumps(rounded(result) | machine()) + "\n")


if __name__ == "__main__":
    main()
