"""Failures of the machine, translated into errors."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tegakari.indexer.training.classifier.failures import translate_failures
from tegakari.schemas.errors import ModelError


def test_a_lack_of_memory_is_reported():
    with pytest.raises(ModelError, match="does not fit into memory") as caught, translate_failures(Path("classifier")):
        torch.empty(2**52, dtype=torch.float64)
    assert caught.value.field == "classifier.batch_size"
    assert "gradient_checkpointing" in (caught.value.fix or "")
    with pytest.raises(RuntimeError, match="shapes"), translate_failures(Path("classifier")):
        torch.mm(torch.ones(2, 3), torch.ones(2, 3))  # a fault of the program is not translated
