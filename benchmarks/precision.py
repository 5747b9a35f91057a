"""Activations of sparse encode against float64, where residuals are mostly their mean or have one huge coordinate.

    python -m benchmarks.precision [--positions 512] [--device cuda]

The residuals have a spread of 1 around a mean of a given number of spreads per coordinate, which the SAE's folded
`b_dec` subtracts; *massive* adds 1,000 spreads to one coordinate at every 64th position. A feature is active at 5 % of
the positions. Figures are relative to the activations: the share of them that differ from float64 by more than 1 % of
their median, and the root mean square of all differences over that median. "Rounded products" is the bias added to
products that were rounded to bfloat16, which encode must not do. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from typing import NamedTuple

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from benchmarks.machine import machine
from tegakari.kernels import Encoder, backend, encode

D_MODEL, D_SAE = 2304, 9216
DENSITY = 0.05
MEANS = (0, 10, 100, 1000)
MASSIVE, MASSIVE_EVERY = 1000, 64
TOLERANCE = 0.01
"""Maximum difference, relative to the median activation."""
DTYPES = {"bfloat16": torch.bfloat16, "float32": torch.float32}


class Case(NamedTuple):
    residual: Tensor
    encoder: Encoder
    expected: Tensor
    """[T, d_sae] float64 activations."""


class Precision(NamedTuple):
    """Difference of activations from float64."""

    share: float
    """share of the activations that differ by more than TOLERANCE"""
    rms: float
    """root mean square of the differences over the median activation"""


def case_of(positions: int, mean: float, dtype: torch.dtype, device: str, *, massive: bool) -> Case:
    """Residuals around a mean, a ReLU SAE that subtracts it, and the activations by the formula in float64."""
    random = torch.Generator().manual_seed(20261127)
    b_dec = mean * torch.randn(D_MODEL, generator=random, dtype=torch.float64)
    residual = b_dec + torch.randn(positions, D_MODEL, generator=random, dtype=torch.float64)
    if massive:
        residual[::MASSIVE_EVERY, 7] += MASSIVE
    residual = residual.to(dtype)
    weight = (torch.randn(D_MODEL, D_SAE, generator=random) / D_MODEL**0.5).to(dtype)
    shift = -(b_dec @ weight.double())
    centred = residual.double() @ weight.double() + shift
    b_enc = -centred.kthvalue(round((1 - DENSITY) * positions), dim=0).values
    encoder = Encoder(weight.to(device), (b_enc + shift).float().to(device), torch.zeros(D_SAE, device=device))
    return Case(residual.to(device), encoder, (centred + b_enc).relu_())


def encoded(case: Case) -> Tensor:
    """Activations [T, d_sae] by encode."""
    positions = len(case.residual)
    rows = encode(case.residual, case.encoder, torch.tensor([0, positions]), rows="all").rows
    assert rows is not None
    indptr, feature, activation = (tensor.cpu() for tensor in rows.trimmed())
    dense = torch.zeros(positions, D_SAE)
    dense[torch.repeat_interleave(torch.arange(positions), indptr.diff()), feature.long()] = activation
    return dense


def of_rounded_products(case: Case) -> Tensor:
    product = (case.residual.float() @ case.encoder.weight.float()).bfloat16().float()
    return (product + case.encoder.bias).relu_().cpu()


def precision(activations: Tensor, expected: Tensor) -> Precision:
    median = expected[expected > 0].median()
    difference = (activations.double() - expected).abs() / median
    share = (difference > TOLERANCE).sum() / (expected > 0).sum()
    return Precision(float(share), float(difference.square().mean().sqrt()))


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Activations of sparse encode against float64.")
    parser.add_argument("--positions", type=int, default=512, help="rows of the residual")
    parser.add_argument("--device", default="cpu", help="device of encode: cpu or cuda")
    arguments = parser.parse_args(argv)
    table = Table(title=f"{arguments.positions} positions, {D_MODEL} -> {D_SAE}", title_justify="left")
    for column in ("operands", "mean, spreads", "massive", "off by > 1 %", "rms", "rounded products: off", "rms"):
        table.add_column(column, justify="right")
    worst: dict[str, float] = {}
    for name, dtype in DTYPES.items():
        for mean in MEANS:
            for massive in (False, True):
                case = case_of(arguments.positions, mean, dtype, arguments.device, massive=massive)
                of_encode = precision(encoded(case), case.expected)
                rounded = precision(of_rounded_products(case), case.expected)
                worst[name] = max(worst.get(name, 0.0), of_encode.share)
                figures = [f"{value:.4%}" for pair in (of_encode, rounded) for value in pair]
                table.add_row(name, str(mean), "yes" if massive else "", *figures)
    Console(width=120).print(table)
    sys.stdout.write(json.dumps({"worst_share": worst, "path": backend(arguments.device)} | machine()) + "\n")


if __name__ == "__main__":
    main()
