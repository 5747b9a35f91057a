"""Effect of a patch (the study, equation 1)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

MIN_GAIN = 1e-6
"""Smallest difference of the clean and the corrupted logit that has an effect; below it effects count as 0."""


class Effects(NamedTuple):
    """Effect of each component in each pair."""

    values: Tensor
    """float32 [P, layers, 2]: 1 = the patch alone restores the clean logit, 0 = it changes nothing"""
    gain: Tensor
    """float32 [P]: clean minus corrupted logit, the denominator"""


def effects(clean: Tensor, corrupted: Tensor, patched: Tensor, label: Tensor) -> Effects:
    """`(z_patched - z_corrupted) / (z_clean - z_corrupted)` of a label's logit z; 0 for a gain below MIN_GAIN.

    Args:
        clean: float32 [P, labels], logits of the clean documents.
        corrupted: float32 [P, labels], logits of the corrupted documents.
        patched: float32 [P, layers, 2, labels], logits of the corrupted documents with one component patched.
        label: int64 [P], the clean document's label.
    """
    pairs = torch.arange(len(label), device=label.device)
    z_clean, z_corrupted = clean[pairs, label], corrupted[pairs, label]
    gain = z_clean - z_corrupted
    change = patched[pairs, :, :, label] - z_corrupted[:, None, None]
    has_effect = (gain >= MIN_GAIN)[:, None, None]
    return Effects(torch.where(has_effect, change / gain.clamp_min(MIN_GAIN)[:, None, None], 0.0), gain)
