"""Sparse encode against the bare GEMM that it contains, and against other implementations.

    python -m benchmarks.encode [--positions 1024] [--repeats 15] [--processor-time]

All contenders run once per round, one after the other; a figure is the median over rounds of a contender's time over
the bare GEMM's of the same round, so that a slow phase of the machine affects both. Results are compared with the
reference before they are timed. SAELens and sparsify run in a process and an environment of their own, in the same
rounds; the environment is created if missing (--no-peers omits both). The last line is one JSON object.
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
from tegakari.kernels import Encoded, Encoder, encode
from tegakari.kernels.reference import reference_encode
from tegakari.kernels.types import EncodeInputs

D_MODEL, D_SAE, DOCUMENT = 2304, 9216, 128
WARM_FLOOR = 0.945
"""Floor that a tenth of the active pairs pass, as that of a top-100 list after some ten thousand positions."""
TOP_K = 64
PEERS = {"SAELens: encode, to_sparse_csr": "sae-lens", f"sparsify: encode, TopK {TOP_K}": "sparsify"}
"""Name in the table -> line of input of `benchmarks.peer_encoders`."""

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
    """Seconds of one contender in every round."""

    name: str
    seconds: list[float]

    def over(self, other: Timing) -> float:
        """Median ratio to another contender's times of the same rounds."""
        return statistics.median(a / b for a, b in zip(self.seconds, other.seconds, strict=True))


def inputs(positions: int) -> Inputs:
    residual, weight, bias = make_weights(positions, D_MODEL, D_SAE)
    offsets = torch.arange(0, positions + DOCUMENT, DOCUMENT).clamp(max=positions)
    return Inputs(residual, Encoder(weight, bias, torch.zeros(D_SAE)), offsets)


def check(case: Inputs) -> float:
    """Compare all results with the reference; returns the active features per position."""
    floor = torch.full((D_SAE,), WARM_FLOOR, device=case.residual.device)
    result = encode(*case, rows="all", floor=floor)
    expected = reference_encode(EncodeInputs(*case, rows="all", floor=floor))
    for actual, reference in zip(result.pooled, expected.pooled, strict=True):
        torch.testing.assert_close(actual, reference, rtol=1e-3, atol=1e-4)
    assert result.rows is not None
    assert expected.rows is not None
    assert result.survivors is not None
    assert expected.survivors is not None
    # Sums in another order may move a few values over the threshold or the floor.
    for actual, reference in ((result.rows, expected.rows), (result.survivors, expected.survivors)):
        n, m = len(actual.trimmed().feature), len(reference.feature)
        assert abs(n - m) <= max(8, m // 200), (n, m)
    return float(expected.columns.count.sum()) / len(case.residual)


def to_csr(case: Inputs) -> Tensor:
    return torch.relu_(case.residual @ case.encoder.weight + case.encoder.bias).to_sparse_csr()


def to_pairs(case: Inputs) -> tuple[Tensor, Tensor]:
    """Pairs as most indexers compute them: dense activations, `nonzero`, gather."""
    activation = torch.relu_((case.residual @ case.encoder.weight).add_(case.encoder.bias))
    index = activation.nonzero()
    return index, activation[index[:, 0], index[:, 1]]


def bare_gemm(case: Inputs) -> Callable[[], Tensor]:
    """The library's product into an existing buffer: a lower bound of the time of encode."""
    product = torch.empty(len(case.residual), D_SAE, dtype=case.encoder.weight.dtype, device=case.residual.device)
    return lambda: torch.mm(case.residual, case.encoder.weight, out=product)


def rounds(contenders: dict[str, Callable[[], float]], repeats: int) -> dict[str, Timing]:
    """Run all contenders in turn, functions that return their seconds."""
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for number in range(repeats + 1):
        for name, contender in contenders.items():
            seconds = contender()
            if number:  # the first round compiles and touches memory
                times[name].append(seconds)
    return {name: Timing(name, seconds) for name, seconds in times.items()}


def on_the_host(work: Callable[[], Any], clock: str) -> Callable[[], float]:
    now = getattr(time, clock)

    def run() -> float:
        start = now()
        work()
        return now() - start

    return run


def show(title: str, timings: Iterable[Timing], base: Timing) -> None:
    table = Table(title=title, title_justify="left")
    for column in ("", "median ms", "fastest ms", "x bare GEMM"):
        table.add_column(column, justify="left" if not column else "right")
    for timing in timings:
        milliseconds = [f"{value * 1e3:.2f}" for value in (statistics.median(timing.seconds), min(timing.seconds))]
        table.add_row(timing.name, *milliseconds, f"{timing.over(base):.3f}")
    console.print(table)


def encode_call(case: Inputs, **options: Any) -> Callable[[], Encoded]:
    return lambda: encode(*case, **options)


def cpu(positions: int, repeats: int, clock: str, *, peers: bool) -> dict[str, float | None]:
    case = inputs(positions)
    timed = partial(on_the_host, clock=clock)
    base = "bare GEMM, float32"
    active = check(case)
    warm, cold = torch.full((D_SAE,), WARM_FLOOR), torch.zeros(D_SAE)
    contenders = {
        base: timed(bare_gemm(case)),
        "encode: last rows, pools, columns, survivors": timed(encode_call(case, floor=warm)),
        "encode: all rows, pools, columns, survivors": timed(encode_call(case, rows="all", floor=warm)),
        "encode: last rows, pools, columns, every pair a survivor": timed(encode_call(case, floor=cold)),
        f"encode: TopK {TOP_K}": timed(encode_call(case._replace(encoder=case.encoder._replace(k=TOP_K)), floor=warm)),
        "GEMM, relu, to_sparse_csr": timed(lambda: to_csr(case)),
        "GEMM, relu, nonzero, gather": timed(lambda: to_pairs(case)),
    }
    halved = case.to("cpu", torch.bfloat16)
    check(halved)
    contenders["encode, bfloat16 weights (widened)"] = timed(encode_call(halved, floor=warm))
    peer = (
        Peer(ENCODERS.make(), "benchmarks.peer_encoders", (positions, D_MODEL, D_SAE, TOP_K, clock)) if peers else None
    )
    if peer is not None:
        console.print(peer.version)
        contenders |= {name: partial(peer.request, line) for name, line in PEERS.items()}
    timings = rounds(contenders, repeats)
    title = f"{positions} positions, {D_MODEL} -> {D_SAE}, {active:.0f} active, {torch.get_num_threads()} threads"
    show(title, timings.values(), timings[base])
    encode_timing = timings["encode: last rows, pools, columns, survivors"]
    result: dict[str, float | None] = {
        "cpu_encode_over_gemm": encode_timing.over(timings[base]),
        "cpu_csr_over_encode": timings["GEMM, relu, to_sparse_csr"].over(encode_timing),
        "cpu_nonzero_over_encode": timings["GEMM, relu, nonzero, gather"].over(encode_timing),
        "saelens_over_cpu_encode": None,
        "sparsify_over_cpu_encode_top_k": None,
    }
    if peer is not None:
        peer.close()
        sae_lens, sparsify = (timings[name] for name in PEERS)
        result["saelens_over_cpu_encode"] = sae_lens.over(encode_timing)
        result["sparsify_over_cpu_encode_top_k"] = sparsify.over(timings[f"encode: TopK {TOP_K}"])
    return result


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Sparse encode against the bare GEMM and against others.")
    parser.add_argument("--positions", type=int, default=1024, help="rows of the residual")
    parser.add_argument("--repeats", type=int, default=15, help="timed rounds")
    parser.add_argument("--no-peers", action="store_true", help="without SAELens and sparsify")
    add_clock_option(parser)
    arguments = parser.parse_args(argv)
    result = cpu(arguments.positions, arguments.repeats, clock_of(arguments), peers=not arguments.no_peers)
    sys.stdout.write(json.dumps(rounded(result) | machine()) + "\n")


if __name__ == "__main__":
    main()
