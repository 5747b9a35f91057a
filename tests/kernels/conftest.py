"""All tests of the kernels run with poisoned scratch memory."""

from __future__ import annotations

import pytest
import torch

EMPTY = torch.empty


def poisoned(*args, **kwargs) -> torch.Tensor:
    """`torch.empty` full of NaN or the largest integer, so that an entry that a path does not write is noticed."""
    tensor = EMPTY(*args, **kwargs)
    if tensor.device.type == "meta":
        return tensor
    if tensor.is_floating_point():
        return tensor.fill_(torch.nan)
    return tensor.fill_(torch.iinfo(tensor.dtype).max)


@pytest.fixture(autouse=True)
def _poison(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "empty", poisoned)
