"""Operands of soft-capped attention, and the same in float64 with every score at hand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from tegakari.kernels.gpu.attention import soft_capped_attention


class AttentionCase(NamedTuple):
    """Right-padded documents; padding is NaN, so that nobody can read it unnoticed."""

    query: Tensor
    key: Tensor
    value: Tensor
    lengths: Tensor
    scale: float
    cap: float
    window: int | None

    def attention(self) -> Tensor:
        """The kernel's."""
        scale, cap, window = self.scale, self.cap, self.window
        return soft_capped_attention(*self[:4], scale=scale, cap=cap, window=window)

    def expected(self) -> tuple[Tensor, Tensor]:
        """Exact attention, and the largest difference that arithmetic in the operands' dtype can make, float64."""
        heads = self.query.shape[1] // self.key.shape[1]
        real = torch.arange(self.query.shape[2], device=self.lengths.device) < self.lengths[:, None]
        query, key, value = (
            part.double().masked_fill(~real[:, None, :, None], 0.0).repeat_interleave(heads // repeats, 1)
            for part, repeats in ((self.query, heads), (self.key, 1), (self.value, 1))
        )
        scores = self.cap * torch.tanh(query @ key.mT * self.scale / self.cap)
        place = torch.arange(scores.shape[-1], device=scores.device)
        distance = place[:, None] - place
        window = self.window or len(place)
        weights = scores.masked_fill((distance < 0) | (distance >= window), -torch.inf).softmax(-1)
        mixed, sizes = weights @ value, weights @ value.abs()
        epsilon = torch.finfo(self.query.dtype).eps
        if self.query.dtype == torch.float32:  # 1 - 2 / (exp(2 x) + 1) is off by two epsilons; sums of products
            bound = (4 * self.cap + self.query.shape[-1]) * epsilon * sizes
        else:  # a weight, the sum of weights and the result are rounded once each, by up to epsilon where rounding cuts
            bound = 3 * epsilon * sizes
        outside = ~real[:, :, None, None]
        return mixed.transpose(1, 2).masked_fill(outside, 0.0), bound.transpose(1, 2).masked_fill(outside, 0.0)

    def excess(self) -> float:
        """Largest difference of the kernel from exact attention, over its bound; at padding it has to be 0."""
        mixed, bound = self.expected()
        difference = (self.attention().double() - mixed).abs()
        return float(torch.where(difference == 0, 0.0, difference / bound).nan_to_num(torch.inf, torch.inf).max())


def attention_case(
    lengths: Sequence[int],
    *,
    size: int,
    dtype: torch.dtype,
    device: torch.device,
    heads: tuple[int, int] = (4, 2),
    cap: float = 50.0,
    window: int | None = None,
    spread: float = 3.0,
) -> AttentionCase:
    """Random operands.

    Args:
        lengths: of the documents.
        size: of a head.
        dtype: of the operands.
        device: of the operands.
        heads: of the queries, and of keys and values.
        cap: of the scores.
        window: of positions.
        spread: of the scores before the cap.
    """
    random = torch.Generator().manual_seed(0)
    tokens = max(lengths)
    padding = torch.arange(tokens) >= torch.tensor(lengths)[:, None]

    def operand(number: int, factor: float) -> Tensor:
        values = factor * torch.randn(len(lengths), tokens, number, size, generator=random)
        return values.masked_fill(padding[..., None, None], torch.nan).to(device, dtype).transpose(1, 2)

    key, value, query = operand(heads[1], 1.0), operand(heads[1], 1.0), operand(heads[0], spread)
    of_documents = torch.tensor(lengths, dtype=torch.int32, device=device)
    return AttentionCase(query, key, value, of_documents, size**-0.5, cap, window)
