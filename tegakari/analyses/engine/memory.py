"""Work that memory does not suffice for is refused before it runs."""

from __future__ import annotations

import torch

from tegakari.models.memory import free_bytes
from tegakari.schemas.errors import MemoryShortError


def refuse_beyond_memory(needed: float, device: torch.device, fix: str) -> None:
    """Compare an estimate, in bytes, with what is free.

    Raises:
        MemoryShortError: it does not suffice.
    """
    free = free_bytes(device)
    if needed > free:
        raise MemoryShortError(
            f"this takes about {needed / 2**30:.2f} GiB of memory, and {free / 2**30:.2f} GiB are free",
            fix=f"{fix}, or ask again when other work is done",
        )
