"""Where a killed training goes on from: parameters, Adam's moments and the number of finished fills."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

import msgspec
from safetensors.torch import load_file, save_file
from torch import Tensor

from tegakari.indexer.sae.trainable import TrainableSae
from tegakari.schemas.errors import SaeError
from tegakari.store.files import fsync_tree, rename_into_place

_STATE = "state.json"
_TENSORS = "tensors.safetensors"


class TrainingState(msgspec.Struct, frozen=True):
    """How far training has come."""

    fingerprint: str
    """hash of classifier, corpus and settings."""
    layers: list[int]
    fills: int
    """finished fills"""
    step: int
    """finished steps"""


def write_checkpoint(directory: Path, state: TrainingState, saes: Mapping[int, TrainableSae]) -> None:
    """Write a checkpoint beside the last one, put it in its place, then remove the last one."""
    target = directory / f"step-{state.step:09d}"
    staged = directory / ".writing"
    shutil.rmtree(staged, ignore_errors=True)
    staged.mkdir(parents=True)
    tensors: dict[str, Tensor] = {}
    for layer, sae in saes.items():
        for name, value in sae.state_dict().items():
            tensors[f"{layer}.{name}"] = value
        for name, parameter in sae.named_parameters():
            for moment, value in sae.optimizer.state[parameter].items():
                tensors[f"{layer}.adam.{name}.{moment}"] = value
    save_file({name: value.contiguous().cpu() for name, value in tensors.items()}, staged / _TENSORS)
    (staged / _STATE).write_bytes(msgspec.json.encode(state))
    fsync_tree(staged)
    if target.exists():
        shutil.rmtree(target)
    rename_into_place(staged, target)
    for older in directory.glob("step-*"):
        if older != target:
            shutil.rmtree(older)


def read_checkpoint(directory: Path, fingerprint: str, saes: Mapping[int, TrainableSae]) -> TrainingState | None:
    """Load the newest checkpoint into the SAEs; None if there is none.

    Raises:
        SaeError: it is of another classifier, corpus or settings.
    """
    found = sorted(directory.glob("step-*"))
    if not found:
        return None
    state = msgspec.json.decode((found[-1] / _STATE).read_bytes(), type=TrainingState)
    if state.fingerprint != fingerprint:
        raise SaeError(
            f"{directory} holds an unfinished training with another classifier, corpus or settings",
            field="saes.path",
            fix=f"finish it with the old settings, or remove {directory.parent} to start over",
        )
    tensors = load_file(found[-1] / _TENSORS)
    for layer, sae in saes.items():
        own = {name.removeprefix(f"{layer}."): value for name, value in tensors.items() if name.startswith(f"{layer}.")}
        sae.load_state_dict({name: value for name, value in own.items() if not name.startswith("adam.")})
        for name, parameter in sae.named_parameters():
            prefix = f"adam.{name}."
            moments = {key.removeprefix(prefix): value for key, value in own.items() if key.startswith(prefix)}
            sae.optimizer.state[parameter] = {
                moment: value.to(parameter.device) if value.ndim else value for moment, value in moments.items()
            }
    return state
