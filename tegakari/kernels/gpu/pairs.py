"""Triton kernel that selects the activations of pairs of a document and a feature."""

from __future__ import annotations

import triton
import triton.language as tl

# Triton reads these functions and Python never runs them, so the types Python sees in them mislead.
# pyright: basic, reportArgumentType=false, reportAttributeAccessIssue=false, reportOperatorIssue=false
# pyright: reportGeneralTypeIssues=false, reportPossiblyUnboundVariable=false, reportIndexIssue=false


@triton.jit
def pairs_kernel(
    active_number,  # [] int64: active entries, those that did not fit included
    active_feature,  # [active_capacity] int32
    active_position,  # [active_capacity] int32
    active_activation,  # [active_capacity] float32
    active_capacity,
    owner,  # [n] int32: document in the chunk of each row
    of_pairs,  # [D, d_sae] bool: pairs of which all activations are taken
    d_sae,
    first_position,  # position of the shard for the chunk's row 0
    number,  # [] int64, candidates so far
    candidate_feature,  # [capacity] int32
    candidate_position,  # [capacity] int32
    candidate_activation,  # [capacity] float32
    capacity,
    BLOCK: tl.constexpr,
):
    """Append the active entries of some pairs to the candidates; programs beyond the last entry do nothing.

    The order of the candidates depends on timing, so the caller sorts them. If the active entries did not fit, more
    candidates are counted than any buffer holds.
    """
    entries = tl.load(active_number)
    start = tl.program_id(0) * BLOCK
    if (start == 0) & (entries > active_capacity):
        tl.atomic_add(number, entries * 0 + 2**40, sem="relaxed")
    if start < entries:
        entry = start + tl.arange(0, BLOCK)
        inside = (entry < entries) & (entry < active_capacity)
        feature = tl.load(active_feature + entry, mask=inside, other=0)
        position = tl.load(active_position + entry, mask=inside, other=0)
        document = tl.load(owner + (position - first_position), mask=inside, other=0)
        taken = tl.load(of_pairs + document.to(tl.int64) * d_sae + feature, mask=inside, other=0)
        taken = (inside & (taken != 0)).to(tl.int32)
        total = tl.sum(taken, axis=0)
        if total > 0:
            first = tl.atomic_add(number, total.to(tl.int64), sem="relaxed")
            room = tl.minimum(tl.maximum(capacity - first, 0), 0x7FFFFFFF).to(tl.int32)
            to = tl.cumsum(taken, axis=0) - 1
            fits = (taken > 0) & (to < room)
            activation = tl.load(active_activation + entry, mask=inside, other=0.0)
            tl.store(candidate_feature + first + to, feature, mask=fits)
            tl.store(candidate_position + first + to, position, mask=fits)
            tl.store(candidate_activation + first + to, activation, mask=fits)
