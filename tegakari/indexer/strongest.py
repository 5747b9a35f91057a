"""The strongest entries of each group, from matrices of keys; see `merge_loops`."""

from __future__ import annotations

import numpy as np

from tegakari.indexer.merge_loops import ENTRY_BITS
from tegakari.store.blocks.activations import Strongest


def no_entries(groups: int, n: int) -> np.ndarray:
    """Keys of no entry, uint64 [groups, n]."""
    return np.zeros((groups, n), np.uint64)


def bits_of(activation: np.ndarray) -> np.ndarray:
    """Bits of float32 activations above 0, uint32: they have the order of the activations."""
    return activation.view(np.uint32)


def strongest_entries(keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Entries and activations of keys, strongest first; int64 and float32 [groups, n].

    Beyond a group's last entry they are -1 and 0.

    Args:
        keys: uint64 [groups, n]; sorted in place.
    """
    keys.sort(axis=1)
    descending = keys[:, ::-1]
    last = np.uint64(2**ENTRY_BITS - 1)
    entry = np.where(descending > 0, (last - (descending & last)).astype(np.int64), -1)
    return entry, (descending >> np.uint64(ENTRY_BITS)).astype(np.uint32).view(np.float32)


def strongest_members(keys: np.ndarray) -> Strongest:
    """Entries and activations of keys whose entries are documents or features; arguments of `strongest_entries`."""
    entry, activation = strongest_entries(keys)
    return Strongest(entry.astype(np.int32), activation)
