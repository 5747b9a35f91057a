"""Pairs of a document and a feature that are drawn: their priority is within a bound."""

from __future__ import annotations

import torch
from torch import Tensor

from tegakari.indexer.priority import pair_priorities
from tegakari.kernels.dispatch import tallies_on_gpu


def drawn_pairs(seeds: Tensor, numbers: Tensor, bound: Tensor) -> Tensor:
    """Whether the priority of each pair is at most the bound of its feature, bool [D, d_sae].

    On a GPU one kernel computes it: a priority is a dozen operations on integers, each of them a launch otherwise.

    Args:
        seeds: int64 [d_sae], from `feature_seeds`.
        numbers: int64 [D], of documents.
        bound: int64 [d_sae]
    """
    if not tallies_on_gpu(seeds.device):
        return pair_priorities(seeds, numbers[:, None]) <= bound
    from tegakari.indexer.drawn_kernel import BLOCK, drawn_kernel  # Triton is absent on most machines
    from tegakari.kernels.gpu.launch import launch

    drawn = torch.empty(len(numbers), len(seeds), dtype=torch.bool, device=seeds.device)
    blocks = -(-len(seeds) // BLOCK)
    launch(
        drawn_kernel, len(numbers) * blocks, seeds, numbers, bound, drawn, len(seeds), blocks, BLOCK=BLOCK, num_warps=4
    )
    return drawn
