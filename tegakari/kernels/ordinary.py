"""Sparse encode of the ordinary positions among others, which no figure includes."""

from __future__ import annotations

import torch
from torch import Tensor

from tegakari.kernels.dispatch import encode
from tegakari.kernels.types import Columns, Encoded, Encoder, Pooled, Rows, RowSelection, Survivors


def encode_ordinary(
    residual: Tensor,
    encoder: Encoder,
    offsets: Tensor,
    ordinary: Tensor | None,
    *,
    rows: RowSelection = "last",
    floor: Tensor | None = None,
    ordered: bool = True,
) -> Encoded:
    """Sparse encode in which no feature is active at norm outliers, and no statistic includes them.

    The result has the documents and positions of the arguments: a document whose last position is an outlier has 0 as
    `pooled.last`, one without an ordinary position has 0 in all poolings. With `ordinary` it synchronises with a GPU.

    Args:
        residual: [T, d_model]
        encoder: of the layer.
        offsets: int64 [D + 1]
        ordinary: bool [T], the positions that count, such as those that are not norm outliers; None: all.
        rows: as of `encode`.
        floor: as of `encode`.
        ordered: as of `encode`.
    """
    if ordinary is None or bool(ordinary.all()):
        return encode(residual, encoder, offsets, rows=rows, floor=floor, ordered=ordered)
    offsets = offsets.to(residual.device)
    lengths = torch.cat([offsets.new_zeros(1), ordinary.cumsum(0)])[offsets].diff()
    position, document = ordinary.nonzero()[:, 0], lengths.nonzero()[:, 0]
    if not len(position):
        return _nothing_active(encoder, len(residual), len(lengths), rows, floor)
    starts = torch.cat([offsets.new_zeros(1), lengths[document].cumsum(0)])
    encoded = encode(residual[position], encoder, starts, rows=rows, floor=floor, ordered=ordered)
    encoded.check()
    at_head = ordinary[offsets[1:] - 1]
    last, maximum, mean = (_among_zeros(values, document, len(lengths)) for values in encoded.pooled)
    selected = None
    if encoded.rows is not None and rows == "last":
        selected = _among_empty(encoded.rows.trimmed(), document, at_head)
    elif encoded.rows is not None:
        selected = _among_empty(encoded.rows.trimmed(), position, ordinary)
    survivors = None
    if encoded.survivors is not None:
        feature, row, activation = encoded.survivors.trimmed()
        survivors = Survivors(feature, position[row.long()].int(), activation)
    return Encoded(selected, Pooled(last * at_head[:, None], maximum, mean), encoded.columns, survivors)


def _among_zeros(values: Tensor, owner: Tensor, total: int) -> Tensor:
    """Rows of some owners among rows of zeros for the others: [R, d_sae], int64 [R] -> [total, d_sae]."""
    return values.new_zeros(total, values.shape[1]).index_copy_(0, owner, values)


def _among_empty(rows: Rows, owner: Tensor, kept: Tensor) -> Rows:
    """Rows of some owners among empty rows for the others, and for owners that are not kept, bool [total]."""
    lengths = rows.indptr.diff()
    pairs = kept[owner].repeat_interleave(lengths)
    totals = lengths.new_zeros(len(kept)).index_copy_(0, owner, lengths * kept[owner])
    indptr = torch.cat([totals.new_zeros(1), totals.cumsum(0)])
    return Rows(indptr, rows.feature[pairs], rows.activation[pairs])


def _nothing_active(
    encoder: Encoder, positions: int, documents: int, rows: RowSelection, floor: Tensor | None
) -> Encoded:
    """Result for positions that are all outliers."""
    d_sae = encoder.weight.shape[1]
    zeros = encoder.bias.new_zeros(documents, d_sae)
    nothing = encoder.bias.new_zeros(0)
    indices = nothing.int()
    count = encoder.bias.new_zeros(d_sae, dtype=torch.int64)
    indptr = count.new_zeros((documents if rows == "last" else positions) + 1)
    return Encoded(
        None if rows == "none" else Rows(indptr, indices, nothing),
        Pooled(zeros, zeros, zeros),
        Columns(count, count.double(), zeros.new_zeros(d_sae)),
        None if floor is None else Survivors(indices, indices, nothing),
    )
