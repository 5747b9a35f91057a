"""The strongest entries of each group, from heaps of keys; see `merge_loops`."""

from __future__ import annotations

import numpy as np

from tegakari.indexer.merge_loops import ENTRY_BITS
from tegakari.store.blocks.activations import Strongest


def empty_heaps(groups: int, n: int) -> np.ndarray:
    """Heaps of n keys without an entry, uint64 [groups, n]."""
    return np.zeros((groups, n), np.uint64)


def bits_of(activation: np.ndarray) -> np.ndarray:
    """Bits of float32 activations above 0, uint32: they have the order of the activations."""
    return activation.view(np.uint32)


def strongest_entries(heaps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The entries of heaps, strongest first: entries, int64 [groups, n], and activations, float32 [groups, n].

    Beyond a group's last entry they are -1 and 0.

    Args:
        heaps: uint64 [groups, n]; sorted in place.
    """
    heaps.sort(axis=1)
    keys = heaps[:, ::-1]
    last = np.uint64(2**ENTRY_BITS - 1)
    entry = np.where(keys > 0, (last - (keys & last)).astype(np.int64), -1)
    return entry, (keys >> np.uint64(ENTRY_BITS)).astype(np.uint32).view(np.float32)


def strongest_members(heaps: np.ndarray) -> Strongest:
    """The entries of heaps whose entries are members of a group: documents or features."""
    entry, activation = strongest_entries(heaps)
    return Strongest(entry.astype(np.int32), activation)
