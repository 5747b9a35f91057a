"""Every test of this room runs with scratch memory that is full of nonsense."""

from __future__ import annotations

import pytest
import torch

EMPTY = torch.empty


def poisoned(*args, **kwargs) -> torch.Tensor:
    """`torch.empty` whose floats are NaN and whose integers are absurd: what a path forgets to write shows."""
    tensor = EMPTY(*args, **kwargs)
    if tensor.device.type == "meta":
        return tensor
    if tensor.is_floating_point():
        return tensor.fill_(torch.nan)
    return tensor.fill_(torch.iinfo(tensor.dtype).max)


@pytest.fixture(autouse=True)
def _poison(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "empty", poisoned)
