"""Estimated memory is compared with free memory before an analysis runs."""

from __future__ import annotations

import torch

from tegakari.models.memory import free_bytes
from tegakari.schemas.errors import MemoryShortError


def refuse_beyond_memory(required: float, device: torch.device, fix: str) -> None:
    """Refuse an analysis whose memory exceeds what is free.

    Args:
        required: estimate, in bytes.
        device: of the models.
        fix: how to make the analysis smaller.

    Raises:
        MemoryShortError: less memory is free.
    """
    free = free_bytes(device)
    if required > free:
        raise MemoryShortError(
            f"this takes about {required / 2**30:.2f} GiB of memory, and {free / 2**30:.2f} GiB are free",
            fix=f"{fix}, or try again when other work has ended",
        )
