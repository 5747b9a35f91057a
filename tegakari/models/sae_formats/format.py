"""Description of a format of SAE files, and readers of the files and values that several formats share."""

from __future__ import annotations

import json
import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import load_file
from torch import Tensor

from tegakari.models.sae import Sae
from tegakari.schemas.errors import SaeError


class SaeFormat(NamedTuple):
    """One library's format: a directory with certain files, or one file with a certain name."""

    name: str
    """the library or the publisher, as error messages name it"""
    files: tuple[str, ...]
    """paths of the files that every SAE of this format has, relative to its directory, the weights last; empty for a
    format of one file per SAE"""
    load: Callable[[Path], Sae]
    """Reads the SAE of a directory, or of a file, float32 on the CPU. Raises `SaeError` for what it cannot
    reproduce."""
    file_name: re.Pattern[str] | None = None
    """name of the file of a format of one file per SAE"""
    config_keys: tuple[str, ...] = ()
    """keys of the JSON configuration, the first of `files`, that no other kind of `config.json` has: they identify an
    SAE whose weights are missing"""

    def matches(self, names: frozenset[str]) -> bool:
        """Whether a directory of these files, named relative to it, holds an SAE of this format."""
        return bool(self.files) and names.issuperset(self.files)

    def matches_file(self, name: str) -> bool:
        """Whether a file of this name is an SAE of this format."""
        return self.file_name is not None and self.file_name.search(name) is not None


def read_json(file: Path) -> dict[str, Any]:
    """Configuration in a JSON file."""
    return json.loads(file.read_text(encoding="utf-8"))


def read_safetensors(file: Path) -> dict[str, Tensor]:
    """Weights in a safetensors file by name, as float32."""
    return {name: tensor.float() for name, tensor in load_file(file).items()}


def read_checkpoint(file: Path) -> dict[str, Any]:
    """Content of a file of `torch.save`; tensors are read as float32, and no code in the file is run.

    Raises:
        SaeError: it would need code to be unpickled.
    """
    try:
        state = torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise SaeError("it holds more than tensors", field=file.name, fix="save its state_dict() instead") from None
    return {name: value.float() if isinstance(value, Tensor) else value for name, value in state.items()}


def whole_number(value: object, field: str) -> int:
    """A count of a configuration, which JSON may hold as 4.0.

    Raises:
        SaeError: not a whole number.
    """
    if isinstance(value, (int, float)) and not isinstance(value, bool) and value == int(value):
        return int(value)
    raise SaeError(f"{value!r} is not a whole number", field=field, fix="correct the SAE's configuration")


def transposed(weight: Tensor) -> Tensor:
    """Weight of torch's Linear, [out, in], as [in, out] or the reverse."""
    return weight.T.contiguous()
