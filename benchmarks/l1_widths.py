"""L1 coefficients of ReLU SAEs in models of several widths: what a coefficient gives, and what it gives elsewhere.

    python -m benchmarks.l1_widths [--widths 128,512,2304] [--steps 400] [--residuals NAME=FILE ...]

Two expressions of a coefficient are compared. *l1* is the weight of the penalty in
`||x - x_hat||^2 + l1 * sum_f a_f` on inputs x of mean norm sqrt(d_model), *unit* the same divided by sqrt(d_model),
which is the weight on inputs of mean norm 1. Both rows of a width hold one of them at its value for d_model = 2304, so
the expression that transfers is the one whose rows agree.

The residuals are synthetic: sums of 4 * d_model known unit directions with exponential amounts, a mean of twice the
spread, and noise of a tenth of the variance. *proportional* has d_model / 16 active directions per position, *constant*
has 32 in every width; what real models have shows a file of residuals (torch, float32 [P, d_model]) of each. The SAEs
have 4 * d_model features. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.nn.functional import normalize

from benchmarks.machine import machine
from tegakari.indexer.training.saes.trainable import TrainableSae

STUDY_WIDTH = 2304
POSITIONS, HELD_OUT, BATCH = 16_384, 2_048, 128
CPU = torch.device("cpu")


def synthetic(d_model: int, active: float, positions: int = POSITIONS, seed: int = 0) -> Tensor:
    """Residuals [positions, d_model] of sparse sums of known directions, around a mean, with noise."""
    generator = torch.Generator().manual_seed(seed)
    directions = normalize(torch.randn(4 * d_model, d_model, generator=generator), dim=1)
    # Frequencies fall as 1 / rank, as those of words do.
    frequency = 1 / torch.arange(10, 10 + len(directions)).float()
    frequency *= active / frequency.sum()
    residual = torch.empty(positions, d_model)
    for rows in residual.split(2048):
        fires = torch.rand(len(rows), len(directions), generator=generator) < frequency
        rows.copy_(
            (fires * torch.empty_like(fires, dtype=torch.float32).exponential_(generator=generator)) @ directions
        )
    spread = (residual - residual.mean(0)).square().mean().sqrt()
    residual += 0.33 * spread * torch.randn(residual.shape, generator=generator)
    return residual + 2 * spread * torch.randn(d_model, generator=generator)


def trained(residual: Tensor, *, l1: float, steps: int, target_l0: float = 0.0) -> TrainableSae:
    d_model = residual.shape[1]
    sae = TrainableSae(
        d_model,
        4 * d_model,
        architecture="relu",
        l1=l1,
        target_l0=target_l0,
        silent_steps=steps // 8,
        seed=0,
        device=CPU,
    )
    sae.start_from(residual)
    generator = torch.Generator().manual_seed(1)
    for step in range(steps):
        rows = torch.randint(0, len(residual), (BATCH,), generator=generator)
        decay = min(1.0, (steps - step) / (0.2 * steps))
        sae.step(residual[rows], penalty=min(1.0, step / (0.05 * steps)), learning_rate=1e-3 * decay)
    return sae


def quality(sae: TrainableSae, held_out: Tensor) -> tuple[float, float]:
    """L0 as a share of the features, and explained variance."""
    finished = sae.finished(0)
    encoder = finished.encoder(torch.float32)
    a = torch.relu(held_out @ encoder.weight + encoder.bias)
    error = (held_out - finished.decode(a, held_out)).double().square().sum()
    variance = (held_out - held_out.mean(0)).double().square().sum()
    return (a > 0).float().mean().item(), 1 - (error / variance).item()


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="L1 coefficients in models of several widths.")
    parser.add_argument("--widths", default="128,512,2304", help="d_model of the synthetic residuals")
    parser.add_argument("--steps", type=int, default=400, help="steps per SAE, of 128 positions each")
    parser.add_argument("--units", default="0.03", help="coefficients at d_model = 2304, for inputs of mean norm 1")
    parser.add_argument("--residuals", nargs="*", default=[], metavar="NAME=FILE", help="residuals of real models")
    arguments = parser.parse_args(argv)
    sources: list[tuple[str, Tensor]] = []
    for pair in arguments.residuals:
        name, _, file = pair.partition("=")
        residual = torch.load(Path(file), weights_only=True)
        sources.append((name, residual[torch.randperm(len(residual), generator=torch.Generator().manual_seed(0))]))
    widths = [int(width) for width in arguments.widths.split(",") if width]
    console = Console(width=120)
    table = Table(title=f"{arguments.steps} steps of {BATCH} positions, 4 * d_model features", title_justify="left")
    for column in ("residuals", "d_model", "held", "unit", "l1", "L0, % of features", "explained variance"):
        table.add_column(column, justify="right")
    rows: list[dict[str, object]] = []

    def measure(name: str, residual: Tensor, steps: int) -> None:
        d_model = residual.shape[1]
        for unit in (float(value) for value in arguments.units.split(",")):
            for held, l1 in (("l1", unit * math.sqrt(STUDY_WIDTH)), ("unit", unit * math.sqrt(d_model))):
                if held == "unit" and d_model == STUDY_WIDTH:
                    continue  # the same as the row before
                l0, explained = quality(trained(residual[:-HELD_OUT], l1=l1, steps=steps), residual[-HELD_OUT:])
                rows.append(
                    {"residuals": name, "d_model": d_model, "held": held, "l1": l1, "l0_share": l0, "ev": explained}
                )
                table.add_row(
                    name,
                    str(d_model),
                    held,
                    f"{l1 / math.sqrt(d_model):.4f}",
                    f"{l1:.3f}",
                    f"{l0:.2%}",
                    f"{explained:.3f}",
                )
                sys.stderr.write(f"{rows[-1]}\n")

    for name, residual in sources:
        measure(name, residual, arguments.steps)
    for width in widths:
        measure("proportional", synthetic(width, width / 16), arguments.steps)
        measure("constant", synthetic(width, 32), arguments.steps)
    console.print(table)
    sys.stdout.write(json.dumps({"rows": rows} | machine()) + "\n")


if __name__ == "__main__":
    main()
