"""What both sides touch: runs on disk, written once, published atomically, read by everyone."""

from tegakari.store.reader import Run, Store

__all__ = ["Run", "Store"]
