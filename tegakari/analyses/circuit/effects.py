"""The effect of a patch (the study, equation 1)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

LEAST = 1e-6
"""Where the clean document's label gains less than this on the way from corrupted to clean, there is no effect."""


class Effects(NamedTuple):
    """Of each component in each pair."""

    values: Tensor
    """float32 [P, layers, 2]: 1 = the patch alone restores the clean logit, 0 = it does nothing."""
    gained: Tensor
    """float32 [P]: what the clean logit is above the corrupted one; the denominator."""


def effects(clean: Tensor, corrupted: Tensor, patched: Tensor, label: Tensor) -> Effects:
    """`(z_patched - z_corrupted) / (z_clean - z_corrupted)` of the logit of a label; 0 where the latter is below LEAST.

    Args:
        clean: float32 [P, labels], logits of the clean documents.
        corrupted: float32 [P, labels].
        patched: float32 [P, layers, 2, labels], of the corrupted documents with one component patched.
        label: int64 [P], the clean document's.
    """
    pairs = torch.arange(len(label), device=label.device)
    z_clean, z_corrupted = clean[pairs, label], corrupted[pairs, label]
    gained = z_clean - z_corrupted
    change = patched[pairs, :, :, label] - z_corrupted[:, None, None]
    counts = (gained >= LEAST)[:, None, None]
    return Effects(torch.where(counts, change / gained.clamp_min(LEAST)[:, None, None], 0.0), gained)
