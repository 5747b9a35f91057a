"""A classifier in another precision, and the precision of a GPU's products of float32 matrices."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import torch

from tegakari.models.architecture import find_blocks
from tegakari.models.classifier import Classifier, padding_mask

FLOAT32_BYTES = 4


def float32_bytes(classifier: Classifier) -> int:
    """Bytes that `float32_copy` allocates."""
    if classifier.dtype == torch.float32:
        return 0
    return FLOAT32_BYTES * sum(parameter.numel() for parameter in classifier.model.parameters())


def float32_copy(classifier: Classifier) -> Classifier:
    """The classifier with its weights and its arithmetic in float32; itself if it has them."""
    if classifier.dtype == torch.float32:
        return classifier
    model = copy.deepcopy(classifier.model).float()
    return replace(classifier, model=model, blocks=find_blocks(model), dtype=torch.float32, masks=padding_mask)


@contextmanager
def float32_products(*, tf32: bool) -> Iterator[None]:
    """Products of float32 matrices on a GPU in TF32, on tensor cores, or in full float32, in the `with` block."""
    former = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high" if tf32 else "highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(former)
