"""Tiles: rows of one document whose products one program reads, planned on the host once per batch for all layers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

TILE_ROWS = 32
"""Maximum rows of a tile: a bit of an int32 each, and enough programs to fill a GPU with one batch."""


class Chunk(NamedTuple):
    """Whole documents whose products are computed at once, cut into tiles."""

    first: int
    """position of its first row in the batch"""
    rows: int
    document: int
    """its first document in the batch"""
    documents: int
    tiles: Tensor
    """[N, 4] int32: document in the chunk, first row, rows, and whether the tile ends the document"""
    first_tile: Tensor
    """[D + 1] int32: first tile of each document of the chunk"""


def plan(ends: Sequence[int], limit: int, device: torch.device) -> list[Chunk]:
    """Cut documents into chunks of at most `limit` rows, or of one longer document, and these into tiles.

    Args:
        ends: [D + 1], from 0: document i owns the rows ends[i]:ends[i + 1].
        limit: rows per chunk.
        device: of the tables.
    """
    chunks = []
    for begin, stop in _cuts(ends, limit):
        rows = np.array(ends[begin : stop + 1], np.int64) - ends[begin]
        lengths = np.diff(rows)
        tiles_of = -(-lengths // TILE_ROWS)
        first_tile = np.concatenate([[0], np.cumsum(tiles_of)])
        document = np.repeat(np.arange(stop - begin), tiles_of)
        place = np.arange(first_tile[-1]) - first_tile[document]
        first = rows[document] + place * TILE_ROWS
        size = np.minimum(TILE_ROWS, rows[document + 1] - first)
        last = place + 1 == tiles_of[document]
        table = np.stack([document, first, size, last], axis=1).astype(np.int32)
        chunks.append(
            Chunk(
                int(ends[begin]),
                int(rows[-1]),
                begin,
                stop - begin,
                _on_device(table, device),
                _on_device(first_tile.astype(np.int32), device),
            )
        )
    return chunks


def _cuts(ends: Sequence[int], limit: int) -> Iterator[tuple[int, int]]:
    """Documents [begin, stop) of each chunk."""
    begin = 0
    for document in range(1, len(ends)):
        if document + 1 == len(ends) or ends[document + 1] - ends[begin] > limit:
            yield begin, document
            begin = document


def _on_device(table: np.ndarray, device: torch.device) -> Tensor:
    tensor = torch.from_numpy(table)
    # From pinned memory: a copy from any other would wait until the queue of the GPU has run empty.
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)
