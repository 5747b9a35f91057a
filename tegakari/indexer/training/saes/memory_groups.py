"""How much memory training takes, and so which layers are trained together."""

from __future__ import annotations

import resource
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch

from tegakari.models.classifier import Classifier
from tegakari.models.memory import free_bytes
from tegakari.schemas.config import SaesConfig
from tegakari.schemas.errors import SaeError

MEMORY_SHARE = 0.6
"""Share of the free memory that layers may take; the rest is for forward passes and for what a step needs."""


def groups_of(layers: Sequence[int], config: SaesConfig, classifier: Classifier) -> list[list[int]]:
    """Cut layers into as few groups as memory allows, of nearly equal size.

    Each group costs a stream of forward passes of its own, and none of them changes what another learns.

    Raises:
        SaeError: there is not memory enough for one layer.
    """
    needed = layer_bytes(config, classifier.d_model, classifier.dtype)
    free = free_bytes(classifier.device)
    if needed > free:
        raise SaeError(
            f"training one layer takes {needed / 2**30:.1f} GiB of memory, and {free / 2**30:.1f} GiB are free",
            field="saes.buffer_positions",
            fix="lower it or saes.d_sae",
        )
    together = max(1, int(free * MEMORY_SHARE / needed))
    count = -(-len(layers) // together)
    return [
        list(layers[number * len(layers) // count : (number + 1) * len(layers) // count]) for number in range(count)
    ]


def layer_bytes(config: SaesConfig, d_model: int, dtype: torch.dtype) -> int:
    """Memory that training holds for a layer: its buffer of residuals, and weights, gradients and Adam's moments."""
    residuals = config.buffer_positions * d_model * dtype.itemsize
    return residuals + 4 * 2 * d_model * config.d_sae * torch.float32.itemsize


def peak_bytes(device: torch.device) -> int:
    """The most memory held so far: allocated on the GPU, or resident in this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


@contextmanager
def translate_out_of_memory() -> Iterator[None]:
    """Turn a GPU's running out of memory into an error that says what to do.

    Raises:
        SaeError: the block ran out of memory.
    """
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise SaeError(
            f"the GPU's memory does not suffice ({str(error).splitlines()[0]})",
            field="saes.buffer_positions",
            fix="lower index.batch_tokens, or lower this one and remove the unfinished training",
        ) from None
