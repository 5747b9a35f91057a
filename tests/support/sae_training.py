"""A short SAE training on the small case."""

from __future__ import annotations

from pathlib import Path

import msgspec

from tegakari.schemas.config import Config
from tests.support.small_case import SmallCase


def sae_config(case: SmallCase, path: Path, **changes: object) -> Config:
    """Configuration of a training of the case's SAEs into `path`, on the CPU; `changes` of the saes section."""
    settings = {
        "path": str(path),
        "architecture": "relu",
        "d_sae": 64,
        "l1_coefficient": 0.17,
        "epochs": 3,
        "learning_rate": 1e-2,
        "batch_size": 32,
        "buffer_positions": 120,
        "checkpoint_steps": 4,
        **changes,
    }
    config = msgspec.structs.replace(case.config, saes=msgspec.structs.replace(case.config.saes, **settings))
    return msgspec.structs.replace(config, index=msgspec.structs.replace(config.index, device="cpu"))
