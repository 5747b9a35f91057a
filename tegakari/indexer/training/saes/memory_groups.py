"""Memory of SAE training, and the groups of layers that fit into memory at the same time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch

from tegakari.indexer.training.saes.ranks import Ranks
from tegakari.models.classifier import Classifier
from tegakari.models.memory import free_bytes
from tegakari.schemas.config import SaesConfig
from tegakari.schemas.errors import SaeError
from tegakari.schemas.saes import Precision

MEMORY_SHARE = 0.6
"""Share of the free memory for the layers of a group; the rest is for forward passes and the tensors of a step."""


def layer_groups(
    layers: Sequence[int], config: SaesConfig, classifier: Classifier, precision: Precision, ranks: Ranks
) -> list[list[int]]:
    """Divide layers into as few groups of nearly equal size as the memory of all ranks allows.

    Each group costs one more series of forward passes. The grouping does not change the trained SAEs.

    Raises:
        SaeError: memory does not suffice for one layer.
    """
    needed = layer_bytes(config, classifier.d_model, classifier.dtype, precision, ranks.count)
    free = min(ranks.gather(free_bytes(classifier.device) // ranks.sharing(classifier.device)))
    if needed > free:
        raise SaeError(
            f"training one layer takes {needed / 2**30:.1f} GiB of memory, and {free / 2**30:.1f} GiB are free",
            field="saes.buffer_positions",
            fix="lower it or saes.d_sae",
        )
    group_size = ranks.count * max(1, int(free * MEMORY_SHARE / needed))
    count = -(-len(layers) // group_size)
    return [
        list(layers[number * len(layers) // count : (number + 1) * len(layers) // count]) for number in range(count)
    ]


def layer_bytes(
    config: SaesConfig, d_model: int, dtype: torch.dtype, precision: Precision = "float32", fills: int = 1
) -> int:
    """Memory per layer in training: its buffer of residuals, and weights, gradients and Adam's two moments.

    With products in bfloat16, a copy of the weights as well. `fills` are in the buffer at a time, one per rank.
    """
    residuals = fills * config.buffer_positions * d_model * dtype.itemsize
    operand = torch.bfloat16.itemsize if precision == "bfloat16" else 0
    return residuals + 2 * d_model * config.d_sae * (4 * torch.float32.itemsize + operand)


@contextmanager
def translate_out_of_memory() -> Iterator[None]:
    """Translate exhausted GPU memory in the block into an error with a fix.

    Raises:
        SaeError: the block ran out of GPU memory.
    """
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise SaeError(
            f"the GPU's memory does not suffice ({str(error).splitlines()[0]})",
            field="saes.buffer_positions",
            fix="lower index.batch_tokens; or lower saes.buffer_positions and remove the unfinished training",
        ) from None
