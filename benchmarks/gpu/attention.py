"""The forward pass of an index in eager attention and with the kernel, and attention alone.

    forward_attention_speedup_8192_164    eager / kernel, seconds of a pass: batches of 8,192 tokens, documents of 164
                                          tokens on average, as the study's; ..._512: of 512; ..._16384_...: batches
                                          of 16,384 tokens
    attention_speedup_8192_164            the same of the attention of one layer, with its mask
    attention_layer_us_8192_164           microseconds of the kernel in one layer
    attention_gigabytes_per_s_8192_164    bytes of queries, keys, values and results, once each, over that time

Nothing is measured where Triton cannot run.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from benchmarks.case import Shape
from benchmarks.gpu.clock import seconds, timing
from benchmarks.gpu.random_model import SMOKE, device_of, random_classifier, random_documents
from tegakari.kernels.gpu.gate import INTERPRETED
from tegakari.models.attention import attention, with_kernel
from tegakari.models.classifier import Classifier
from tegakari.models.tokens import Batch

BUDGETS = (8192, 16384)
MEANS = (164, 512)
"""Mean tokens of a document: the study's, and its longest."""

BATCHES = 3
"""Batches of a pass."""


def measure(smoke: bool = False) -> dict[str, float]:
    """Times of both attentions by budget and length: a table, and the figures."""
    device = device_of(smoke)
    if device.type == "cpu" and not INTERPRETED:
        Console().print("attention: not measured, set TRITON_INTERPRET=1 to interpret the kernel")
        return {}
    shape = SMOKE._replace(layers=1, heads=2, kv_heads=1, head_dim=16) if smoke else Shape()
    eager = random_classifier(shape, device, torch.bfloat16)
    figures: dict[str, float] = {}
    table = Table(title="attention, eager and in one kernel", title_justify="left")
    for column in ("tokens per batch", "per document", "pass, ms", "kernel", "one layer, us", "kernel", "GB/s"):
        table.add_column(column, justify="right")
    repeats = 1 if smoke else 10
    for budget in (16,) if smoke else BUDGETS:
        for mean in (6,) if smoke else MEANS:
            batches = _batches(eager, shape, budget, mean)
            passes = [_pass_seconds(classifier, batches, repeats) for classifier in (eager, with_kernel(eager))]
            layers = [_layer_seconds(eager, shape, batches[0], repeats, kernel=kernel) for kernel in (False, True)]
            gigabytes = _bytes(shape, batches[0]) / layers[1] / 1e9
            figures |= {
                f"forward_attention_speedup_{budget}_{mean}": passes[0] / passes[1],
                f"attention_speedup_{budget}_{mean}": layers[0] / layers[1],
                f"attention_layer_us_{budget}_{mean}": layers[1] * 1e6,
                f"attention_gigabytes_per_s_{budget}_{mean}": gigabytes,
            }
            times = [f"{time:.1f}" for time in (*(1e3 * time for time in passes), *(1e6 * time for time in layers))]
            table.add_row(f"{budget:,}", str(mean), *times, f"{gigabytes:.0f}")
    Console(width=120).print(table)
    return figures


def _batches(classifier: Classifier, shape: Shape, budget: int, mean: int) -> list[Batch]:
    """Batches of documents of half to one and a half times the mean length."""
    documents = random_documents(BATCHES * budget // mean, range(mean // 2, mean + mean // 2), shape.vocabulary)
    return [batch for _, batch in classifier.batches(documents, budget)]


def _pass_seconds(classifier: Classifier, batches: list[Batch], repeats: int) -> float:
    """Seconds of the forward passes of all batches."""
    return seconds(lambda: [classifier.run(batch) for batch in batches], classifier.device, repeats)


@torch.inference_mode()
def _layer_seconds(classifier: Classifier, shape: Shape, batch: Batch, repeats: int, *, kernel: bool) -> float:
    """Seconds of the attention of one layer on random operands."""
    documents, tokens = batch.input_ids.shape
    device, dtype = classifier.device, classifier.dtype
    module: Any = classifier.blocks[0]
    operands = [
        torch.randn(documents, tokens, heads, shape.head_dim, device=device).to(dtype).transpose(1, 2)
        for heads in (shape.heads, shape.kv_heads, shape.kv_heads)
    ]
    mask = (
        batch.attention_mask.sum(1, dtype=torch.int32)
        if kernel
        else torch.zeros(documents, 1, tokens, tokens, dtype=dtype, device=device)
    )
    settings = {"scaling": shape.head_dim**-0.5, "softcap": 50.0, "sliding_window": None}
    work = partial(attention, module.self_attn, *operands, mask, **settings)
    return timing(work, device, repeats).device / 1e3


def _bytes(shape: Shape, batch: Batch) -> int:
    """Bytes of queries, keys, values and results of a layer, in bfloat16."""
    return 2 * batch.input_ids.numel() * shape.head_dim * 2 * (shape.heads + shape.kv_heads)
