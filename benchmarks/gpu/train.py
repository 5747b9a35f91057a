"""SAE training and fine-tuning on a GPU.

    sae_train_mfu            share of the FLOP limit that the matrix products of SAE steps reach: batches of 512
                             positions, bfloat16; the limit is that of a GEMM of the same shape and dtype on this device
    sae_train_mfu_4096       the same with batches of 4,096 positions; ..._tf32, ..._topk: other precision, BatchTopK
    sae_positions_per_s      positions per second of the steps of one layer, divided by the 26 layers of gemma-2-2b
    sae_gpu_difference       largest difference of a weight after 40 steps in float32 from a CPU's, over its change
    sae_bfloat16_loss        squared error after 200 steps with products in bfloat16 / in float32
    finetune_tokens_per_s    tokens per second with 2 documents per step, as the study; ..._8: with 8;
                             ..._packed: with the documents of a step in one row

The steps are those of `tegakari sae train` and `tegakari finetune`. SAEs have the study's shapes, 2,304 x 9,216.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

import numpy as np
import torch
from msgspec.structs import replace
from torch import Tensor

from benchmarks.case import Shape
from benchmarks.gpu.clock import seconds, waits
from benchmarks.gpu.parts import figures_of
from benchmarks.gpu.random_model import LABELS, SMOKE, device_of, random_documents, random_model
from tegakari.indexer.training.classifier.examples import Example
from tegakari.indexer.training.classifier.trainer import train
from tegakari.indexer.training.saes.gradients import PRODUCTS, step_flop
from tegakari.indexer.training.saes.layer_group import train_steps
from tegakari.indexer.training.saes.schedule import Schedule
from tegakari.indexer.training.saes.trainable import TrainableSae
from tegakari.models.memory import wait_for
from tegakari.models.precision import float32_products
from tegakari.models.tokens import Tokenized
from tegakari.schemas.config import ClassifierConfig, SaesConfig
from tegakari.schemas.corpus import Document
from tegakari.schemas.progress import NoProgress
from tegakari.schemas.saes import Precision

_DOCUMENT = Document("document", "label 0", "train", "text")

LAYERS = 3
"""Layers that are trained at the same time, each with its weights and moments: more than fit into a cache."""


def measure(smoke: bool) -> dict[str, float]:
    """Figures of SAE training and fine-tuning. `smoke`: tiny shapes on a CPU."""
    shape, device = SMOKE if smoke else Shape(), device_of(smoke)
    return figures_of(
        {
            "sae_agreement": lambda: _agreement(device),
            "sae_training": lambda: _sae_training(shape, device, smoke),
            "fine_tuning": lambda: _fine_tuning(shape, device, smoke),
        },
        strict=smoke,
    )


def _sae_training(shape: Shape, device: torch.device, smoke: bool) -> dict[str, float]:
    small, large = (16, 32) if smoke else (512, 4096)
    low: Precision = "bfloat16"
    other: Precision = "float32" if device.type == "cpu" else "tf32"
    residual = random_residuals(shape, 2 * large, device)
    figures: dict[str, float] = {}
    cases: list[tuple[str, Literal["relu", "batch_topk"], int, Precision]] = [
        ("", "relu", small, low),
        (f"_{large}", "relu", large, low),
        (f"_{other}", "relu", small, other),
        ("_topk", "batch_topk", small, low),
    ]
    for name, architecture, batch, precision in cases:
        rate, host_waits = _steps(shape, residual, architecture, batch, precision)
        limit = _gemm_rate(shape, batch, precision, device)
        figures[f"sae_train_mfu{name}"] = rate / limit
        figures[f"sae_train_flop_per_s{name}"] = rate
        figures[f"sae_gemm_flop_per_s{name}"] = limit
        figures[f"sae_positions_per_s{name}"] = (
            rate / step_flop(1, d_model=shape.d_model, d_sae=shape.d_sae) / shape.layers
        )
        figures[f"sae_train_waits{name}"] = host_waits
    return figures


def _agreement(device: torch.device) -> dict[str, float]:
    """Whether steps on the device are those of a CPU, and bfloat16 learns as much as float32; small shapes."""
    shape = SMOKE._replace(d_model=64, d_sae=256)
    residual = random_residuals(shape, 1024, torch.device("cpu"))

    def trained(place: torch.device, precision: Precision, steps: int) -> TrainableSae:
        sae = new_sae(shape, "relu", place, precision, layer=0)
        rows = residual.to(place)
        sae.start_from(rows)
        with float32_products(tf32=False):
            for step in range(steps):
                sae.step(rows[step % 2 :: 2], learning_rate=2e-3)
        return sae

    def loss(sae: TrainableSae) -> float:
        finished = sae.finished(0)
        encoder = finished.encoder(torch.float32)
        h = residual.float()
        return float((h - finished.decode((h @ encoder.weight + encoder.bias).relu(), h)).square().sum())

    before = new_sae(shape, "relu", torch.device("cpu"), "float32", layer=0).W_enc.detach()
    on_cpu, on_device = (trained(place, "float32", 40).W_enc.detach().cpu() for place in (torch.device("cpu"), device))
    losses = {precision: loss(trained(device, precision, 200)) for precision in ("float32", "bfloat16")}
    return {
        "sae_gpu_difference": float((on_device - on_cpu).abs().max() / (on_cpu - before).abs().max()),
        "sae_bfloat16_loss": losses["bfloat16"] / losses["float32"],
    }


def new_sae(
    shape: Shape,
    architecture: Literal["relu", "batch_topk"],
    device: torch.device,
    precision: Precision,
    layer: int,
    *,
    compiled: bool = False,
) -> TrainableSae:
    """SAE with the seed of a layer."""
    return TrainableSae(
        shape.d_model,
        shape.d_sae,
        architecture=architecture,
        k=min(64, shape.d_sae // 4),
        l1=1.44,
        silent_steps=1000,
        seed=layer,
        device=device,
        precision=precision,
        compiled=compiled,
    )


def random_residuals(shape: Shape, positions: int, device: torch.device) -> Tensor:
    """Residuals around a mean that is far from zero, bfloat16 [positions, d_model]."""
    generator = torch.Generator(device).manual_seed(0)
    spread = torch.randn(positions, shape.d_model, generator=generator, device=device)
    return (spread + 3 * torch.randn(shape.d_model, generator=generator, device=device)).bfloat16()


def _steps(
    shape: Shape, residual: Tensor, architecture: Literal["relu", "batch_topk"], batch: int, precision: Precision
) -> tuple[float, int]:
    """FLOP/s of the steps of several layers, and how often the host waited for the device."""
    device = residual.device
    number, run = _training(shape, residual, architecture, batch, precision)
    with float32_products(tf32=precision == "tf32"):
        duration = seconds(run, device, repeats=3)
        host_waits = waits(run, device)
    return step_flop(LAYERS * number * batch, d_model=shape.d_model, d_sae=shape.d_sae) / duration, host_waits


def _training(
    shape: Shape, residual: Tensor, architecture: Literal["relu", "batch_topk"], batch: int, precision: Precision
) -> tuple[int, Callable[[], None]]:
    """Steps of several layers: their number, and what runs them."""
    device = residual.device
    saes: dict[int, TrainableSae] = {}
    for layer in range(LAYERS):
        saes[layer] = new_sae(shape, architecture, device, precision, layer)
        saes[layer].start_from(residual)
    number = max(4, min(32, 32 * 512 // batch)) if len(residual) > 1000 else 2
    order = torch.arange(number * batch, device=device) % len(residual)
    batches = {layer: order.split(batch) for layer in saes}
    residuals = dict.fromkeys(saes, residual)
    schedule = Schedule(SaesConfig(), 10 * number)

    def run() -> None:
        train_steps(saes, residuals, batches, schedule, 5 * number, NoProgress())

    return number, run


def training_steps(shape: Shape, device: torch.device, batch: int) -> Callable[[], None]:
    """Steps of several layers with products in bfloat16."""
    return _training(shape, random_residuals(shape, 8 * batch, device), "relu", batch, "bfloat16")[1]


def _gemm_rate(shape: Shape, batch: int, precision: Precision, device: torch.device) -> float:
    """FLOP/s of bare products of the shapes of a step, in its dtype."""
    dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32
    residual = torch.randn(batch, shape.d_model, device=device).to(dtype)
    activation = torch.randn(batch, shape.d_sae, device=device).to(dtype)
    weight = torch.randn(shape.d_model, shape.d_sae, device=device).to(dtype)
    times = 1 if device.type == "cpu" else 10

    def run() -> None:
        for _ in range(times):
            torch.mm(residual, weight)
            torch.mm(activation, weight.T)
            torch.mm(residual, weight)
            torch.mm(residual.T, activation)
            torch.mm(activation.T, residual)

    with float32_products(tf32=precision == "tf32"):
        return times * PRODUCTS * 2 * batch * shape.d_model * shape.d_sae / seconds(run, device, repeats=3)


class _StepClock(NoProgress):
    """Seconds of the steps of a training after the first ones."""

    def __init__(self, first: int, device: torch.device) -> None:
        self._left = first
        self._device = device
        self.start = 0.0

    def advance(self, steps: int = 1) -> None:
        self._left -= steps
        if self._left == 0:
            wait_for(self._device)
            self.start = time.perf_counter()


def fine_tuning_steps(shape: Shape, device: torch.device, *, smoke: bool) -> Callable[[], None]:
    """Four steps of a fine-tuning with 2 documents each, as the study."""
    model = random_model(shape, device, torch.float32)
    documents = random_documents(8, range(5, 20) if smoke else range(30, 300), shape.vocabulary)

    def run() -> None:
        with TemporaryDirectory() as work:
            train(
                model,
                _examples(documents),
                replace(ClassifierConfig(), epochs=1, batch_size=2),
                device=device,
                bfloat16=device.type == "cuda",
                work=Path(work),
                checkpoint=None,
                progress=NoProgress(),
                checkpoints=False,
            )
        gc.collect()  # Trainer's objects form cycles, and hold Adam's moments

    return run


def _examples(documents: Sequence[Tokenized]) -> list[Example]:
    return [
        Example(_DOCUMENT, np.array(document.input_ids, np.int32), number % LABELS)
        for number, document in enumerate(documents)
    ]


def _fine_tuning(shape: Shape, device: torch.device, smoke: bool) -> dict[str, float]:
    first, steps, lengths = (1, 2, range(5, 20)) if smoke else (4, 16, range(30, 300))
    model = random_model(shape, device, torch.float32)
    figures: dict[str, float] = {}
    for name, batch_size, packed in (
        ("", 2, False),
        ("_packed", 2, True),
        ("_8", 8, False),
        ("_8_packed", 8, True),
    ):
        documents = random_documents(batch_size * (first + steps), lengths, shape.vocabulary)
        examples = _examples(documents)
        settings = replace(ClassifierConfig(), epochs=1, batch_size=batch_size, packed=packed)
        clock = _StepClock(first, device)
        train_once = partial(train, model, examples, settings, device=device, bfloat16=device.type == "cuda")
        with TemporaryDirectory() as work:
            train_once(work=Path(work), checkpoint=None, progress=clock, checkpoints=False)
        wait_for(device)
        duration = time.perf_counter() - clock.start
        mean = sum(len(document) for document in documents) / len(documents)
        figures[f"finetune_tokens_per_s{name}"] = mean * batch_size * steps / duration
        figures[f"finetune_step_ms{name}"] = 1e3 * duration / steps
        gc.collect()  # Trainer's objects form cycles, and hold Adam's moments
        if device.type == "cuda":
            torch.cuda.empty_cache()
    return figures
