"""Sparse encode without numba and Triton: the reference over groups of whole documents."""

from __future__ import annotations

from itertools import pairwise

import torch

from tegakari.kernels.reference import reference_encode, sorted_survivors
from tegakari.kernels.types import Columns, Encoded, EncodeInputs, Pooled, Rows, Survivors

CHUNK = 1024
"""Rows per group. A document is never cut, so a longer one is a group of its own."""


def torch_encode(inputs: EncodeInputs) -> Encoded:
    """Sparse encode with [rows, d_sae] of one group in memory at a time. See `tegakari.kernels.encode`."""
    residual, offsets = inputs.residual, inputs.offsets
    ends = offsets.tolist()
    cuts = groups(ends)
    parts = [
        reference_encode(inputs._replace(residual=residual[ends[a] : ends[b]], offsets=offsets[a : b + 1] - offsets[a]))
        for a, b in pairwise(cuts)
    ]
    starts = [ends[a] for a in cuts[:-1]]
    survivors = [
        Survivors(s.feature, s.position + start, s.activation)
        for s, start in zip((part.survivors for part in parts), starts, strict=True)
        if s is not None
    ]
    return Encoded(
        rows=None if inputs.rows == "none" else joined([part.rows for part in parts if part.rows is not None]),
        pooled=Pooled(*(torch.cat(tables) for tables in zip(*(part.pooled for part in parts), strict=True))),
        columns=Columns(
            torch.stack([part.columns.count for part in parts]).sum(0),
            torch.stack([part.columns.total for part in parts]).sum(0),
            torch.stack([part.columns.maximum for part in parts]).amax(0),
        ),
        survivors=sorted_survivors(*(torch.cat(column) for column in zip(*survivors, strict=True)))
        if survivors
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
    """Rows of consecutive chunks as one CSR."""
    counts = torch.cat([chunk.indptr.diff() for chunk in chunks])
    indptr = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
    return Rows(indptr, torch.cat([c.feature for c in chunks]), torch.cat([c.activation for c in chunks]))
