"""Norm outliers: positions whose residual is far longer than that of ordinary positions, and encoding without them.

Decoders give a few positions a residual of a hundred times the ordinary norm (Sun et al. 2024, "Massive Activations in
Large Language Models"): the first token of a document, and others that attention uses as a sink. Such a position says
nothing about its token and holds most of the variance of its layer: an SAE that is trained on it learns one direction.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from tegakari.kernels import Encoded, Encoder, Pooled, encode
from tegakari.kernels.types import Columns, Rows, RowSelection, Survivors

MIN_RATIO = 3.0
"""Minimum norm of an outlier, in medians of its layer."""

DEVIATIONS = 5.0
"""Minimum distance of an outlier from the median in log norm, in robust standard deviations of the layer."""

_MAD_TO_SD = 1.4826
"""Standard deviation of a normal distribution, in units of its median absolute deviation."""


def norms_of(residual: Tensor) -> Tensor:
    """Euclidean norm of each row: [T, d_model] -> float32 [T]."""
    return torch.linalg.vector_norm(residual, dim=1, dtype=torch.float32)


def norm_limit(norms: Tensor) -> float:
    """Norm above which a position is an outlier: `median * exp(max(log 3, 5 * 1.4826 * MAD of log norm))`.

    The rule is about norms and not about position 0. Of 8,262 positions of SmolLM2 it finds 1.8 to 4 % in the layers
    whose outliers hold half of the variance or more, and none in layers without.

    Args:
        norms: [T], of a sample of positions of one layer.

    Returns:
        the limit; infinity if no position of the sample is beyond it.
    """
    log_norms = norms.double().clamp_min(1e-30).log()
    median = log_norms.median()
    deviation = _MAD_TO_SD * (log_norms - median).abs().median()
    limit = float((median + (DEVIATIONS * deviation).clamp_min(math.log(MIN_RATIO))).exp())
    return limit if bool((norms > limit).any()) else math.inf


def finite_limit(max_norm: float | None) -> float | None:
    """`Sae.max_norm` as files have it: None if no position of the layer is an outlier."""
    return None if max_norm is None or math.isinf(max_norm) else max_norm


def ordinary_positions(residual: Tensor, max_norm: float | None) -> Tensor | None:
    """Positions that are not norm outliers, bool [T]; None: all, because the layer has no limit.

    A residual that is not finite is no outlier, so that encode refuses it.

    Args:
        residual: [T, d_model].
        max_norm: limit of the layer, as of `Sae.max_norm`.
    """
    limit = finite_limit(max_norm)
    if limit is None:
        return None
    norms = norms_of(residual)
    return ~((norms > limit) & norms.isfinite())


def encode_ordinary(
    residual: Tensor,
    encoder: Encoder,
    offsets: Tensor,
    ordinary: Tensor | None,
    *,
    rows: RowSelection = "last",
    floor: Tensor | None = None,
) -> Encoded:
    """Sparse encode in which no feature is active at norm outliers, and no statistic includes them.

    The result has the documents and positions of the arguments: a document whose last position is an outlier has 0 as
    `pooled.last`, one without an ordinary position has 0 in all poolings. With `ordinary` it synchronises with a GPU.

    Args:
        residual: [T, d_model]
        encoder: of the layer.
        offsets: int64 [D + 1]
        ordinary: bool [T], from `ordinary_positions`; None: all.
        rows: as of `encode`.
        floor: as of `encode`.
    """
    if ordinary is None or bool(ordinary.all()):
        return encode(residual, encoder, offsets, rows=rows, floor=floor)
    offsets = offsets.to(residual.device)
    lengths = torch.cat([offsets.new_zeros(1), ordinary.cumsum(0)])[offsets].diff()
    position, document = ordinary.nonzero()[:, 0], lengths.nonzero()[:, 0]
    if not len(position):
        return _nothing_active(encoder, len(residual), len(lengths), rows, floor)
    starts = torch.cat([offsets.new_zeros(1), lengths[document].cumsum(0)])
    encoded = encode(residual[position], encoder, starts, rows=rows, floor=floor)
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
