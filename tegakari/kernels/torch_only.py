"""Sparse encode where neither numba nor Triton can be had: the reference over groups of whole documents."""

from __future__ import annotations

from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor

from tegakari.kernels import reference
from tegakari.kernels.types import Columns, Encoded, Encoder, Pooled, Rows, Survivors

CHUNK = 1024
"""Rows of a group. A document is never cut, so a longer one is a group of its own."""


def encode(
    residual: Tensor,
    encoder: Encoder,
    offsets: Tensor,
    *,
    rows: Literal["last", "all", "none"] = "last",
    floor: Tensor | None = None,
) -> Encoded:
    """Sparse encode with one group's [rows, d_sae] in memory at a time. See `tegakari.kernels.encode`."""
    ends = offsets.tolist()
    parts = [
        reference.encode(residual[ends[a] : ends[b]], encoder, offsets[a : b + 1] - offsets[a], rows=rows, floor=floor)
        for a, b in pairwise(groups(ends))
    ]
    starts = [ends[a] for a in groups(ends)[:-1]]
    found = [
        Survivors(s.feature, s.position + start, s.activation)
        for s, start in zip((part.survivors for part in parts), starts, strict=True)
        if s is not None
    ]
    return Encoded(
        rows=None if rows == "none" else joined([part.rows for part in parts if part.rows is not None]),
        pooled=Pooled(*(torch.cat(tables) for tables in zip(*(part.pooled for part in parts), strict=True))),
        columns=Columns(
            torch.stack([part.columns.count for part in parts]).sum(0),
            torch.stack([part.columns.total for part in parts]).sum(0),
            torch.stack([part.columns.maximum for part in parts]).amax(0),
        ),
        survivors=reference.sorted_survivors(*(torch.cat(column) for column in zip(*found, strict=True)))
        if found
        else None,
    )


def groups(ends: list[int]) -> list[int]:
    """Cut documents with offsets `ends` into groups of at most CHUNK rows: indices into `ends`, first 0, last D."""
    cuts = [0]
    for document in range(1, len(ends)):
        if ends[document] - ends[cuts[-1]] > CHUNK and document - 1 > cuts[-1]:
            cuts.append(document - 1)
    return [*cuts, len(ends) - 1]


def joined(chunks: list[Rows]) -> Rows:
    """Rows of one chunk after the other as one CSR."""
    counts = torch.cat([chunk.indptr.diff() for chunk in chunks])
    indptr = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
    return Rows(indptr, torch.cat([c.feature for c in chunks]), torch.cat([c.activation for c in chunks]))
