"""Description of a format of SAE files, and readers of the files that several formats share."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from safetensors.torch import load_file
from torch import Tensor

from tegakari.models.sae import Sae


class SaeFormat(NamedTuple):
    """One library's format: a directory with certain files."""

    name: str
    """the library, as error messages name it"""
    files: tuple[str, ...]
    """names of the files that every SAE of this format has; a directory with all of them is of this format"""
    load: Callable[[Path], Sae]
    """Reads the SAE of a directory, float32 on the CPU. Raises `SaeError` for what it cannot reproduce."""

    def matches(self, directory: Path) -> bool:
        """Whether a directory has the format's files."""
        return all((directory / file).is_file() for file in self.files)


def read_json(file: Path) -> dict[str, Any]:
    """Configuration in a JSON file."""
    return json.loads(file.read_text(encoding="utf-8"))


def read_safetensors(file: Path) -> dict[str, Tensor]:
    """Weights in a safetensors file by name, as float32."""
    return {name: tensor.float() for name, tensor in load_file(file).items()}
