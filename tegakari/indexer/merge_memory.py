"""The memory of the merge of one layer: what it needs in any case, and what is left for ranges of features.

Bytes per entry, label or position are upper bounds of the arrays that a step has at once; they are constants beside the
steps. A test merges with little memory and compares.
"""

from __future__ import annotations

import math

from tegakari.indexer.corpus_documents import DOCUMENT_BYTES
from tegakari.schemas.errors import ConfigError

SHARD_BYTES = 16_384
"""What is known of the layer's arrays in a shard."""

_FEATURE_BYTES = 1_000
"""Per feature: its row of the table, and the statistics that the row comes from."""

_POSITION_BYTES = 12
"""Per strongest position of a feature."""

_CONSTANT_BYTES = 48 * 10**6
"""Contexts of 1,024 features, row groups that are compressed, and the tokens of a shard."""

SMALLEST_RANGE = 16 * 10**6
"""Less memory for ranges than this would read files piece by piece."""

GIGABYTE = 10**9


def fixed_bytes(*, shards: int, documents: int, d_sae: int, top_tokens: int) -> int:
    """Memory of the merge of a layer beside its ranges of features; arguments of `memory_of_ranges`."""
    return (
        shards * SHARD_BYTES
        + documents * DOCUMENT_BYTES
        + d_sae * (_FEATURE_BYTES + top_tokens * _POSITION_BYTES)
        + _CONSTANT_BYTES
    )


def memory_of_ranges(memory: int, *, shards: int, documents: int, d_sae: int, top_tokens: int) -> int:
    """Memory that is left for ranges of features, in bytes.

    Args:
        memory: of the whole merge of a layer, beside the program itself.
        shards: number of shards.
        documents: number of documents.
        d_sae: features of the layer.
        top_tokens: strongest positions per feature.

    Raises:
        ConfigError: less than SMALLEST_RANGE is left.
    """
    fixed = fixed_bytes(shards=shards, documents=documents, d_sae=d_sae, top_tokens=top_tokens)
    if memory - fixed < SMALLEST_RANGE:
        hundredths = math.ceil((fixed + SMALLEST_RANGE) / GIGABYTE * 100)
        raise ConfigError(
            f"{memory / GIGABYTE:g} GB are too little to merge a layer of {d_sae:,} features from {shards:,} shards of "
            f"{documents:,} documents",
            field="index.merge_memory_gb",
            fix=f"set at least {hundredths / 100:.2f}",
        )
    return memory - fixed
