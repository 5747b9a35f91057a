"""A classifier in another precision."""

from __future__ import annotations

import copy
from dataclasses import replace

import torch

from tegakari.models.architecture import find_blocks
from tegakari.models.classifier import Classifier

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
    return replace(classifier, model=model, blocks=find_blocks(model), dtype=torch.float32)
