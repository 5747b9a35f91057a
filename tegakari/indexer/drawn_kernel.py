"""Triton kernel that compares the priorities of `tegakari.indexer.priority` with bounds."""

from __future__ import annotations

import triton
import triton.language as tl

from tegakari.indexer.priority import DOCUMENT_BITS, FACTORS, STEP

# Triton reads these functions and Python never runs them, so the types Python sees in them mislead.
# pyright: basic, reportArgumentType=false, reportAttributeAccessIssue=false, reportOperatorIssue=false

BLOCK = 512
"""Features per program."""

_STEP = tl.constexpr(STEP)
_FIRST_FACTOR = tl.constexpr(FACTORS[0])
_SECOND_FACTOR = tl.constexpr(FACTORS[1])
_DOCUMENT_BITS = tl.constexpr(DOCUMENT_BITS)


@triton.jit
def mixed(number):
    """The finalizer of SplitMix64, of int64; shifts fill with ones, which the masks remove."""
    number = (number ^ ((number >> 30) & 0x3FFFFFFFF)) * _FIRST_FACTOR
    number = (number ^ ((number >> 27) & 0x1FFFFFFFFF)) * _SECOND_FACTOR
    return number ^ ((number >> 31) & 0x1FFFFFFFF)


@triton.jit
def drawn_kernel(
    seeds,  # [d_sae] int64
    numbers,  # [D] int64
    bound,  # [d_sae] int64
    drawn,  # [D, d_sae] bool
    d_sae,
    blocks,
    BLOCK: tl.constexpr,
):
    """One document and one block of features."""
    document = tl.program_id(0) // blocks
    feature = tl.program_id(0) % blocks * BLOCK + tl.arange(0, BLOCK)
    inside = feature < d_sae
    number = tl.load(numbers + document + tl.arange(0, 1))
    of_document = mixed((number + 1) * _STEP)
    of_pair = mixed(tl.load(seeds + feature, mask=inside, other=0) ^ of_document)
    priority = (((of_pair >> 32) & 0xFFFFFFFF) << _DOCUMENT_BITS) | number
    within = priority <= tl.load(bound + feature, mask=inside, other=0)
    tl.store(drawn + document.to(tl.int64) * d_sae + feature, within, mask=inside)
