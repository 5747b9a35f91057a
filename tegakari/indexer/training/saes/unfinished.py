"""Unfinished training beside the directory of the SAEs: what it is made from, and where a killed one goes on from.

saes.work/
    lock                 held while a process trains
    plan.json            what is being trained, and which layers together
    group-00/step-1000/  parameters, Adam's moments, and how far a group of layers has come
    staged/              the finished SAEs before they are renamed into place
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import msgspec
from safetensors.torch import load_file, save_file
from torch import Tensor

from tegakari.indexer.training.saes.trainable import TrainableSae
from tegakari.schemas.errors import SaeError
from tegakari.schemas.saes import SaesRecipe, SaesReport
from tegakari.store.disk.durable import exclusive_lock, fsync_tree, rename_into_place, write_atomically

REPORT_FILE = "training.json"
_PLAN_FILE = "plan.json"
_STATE_FILE = "state.json"
_TENSORS_FILE = "tensors.safetensors"
_FIELD = "saes.path"


class Plan(msgspec.Struct, frozen=True):
    """plan.json: decided when training began; another amount of free memory does not change it."""

    recipe: SaesRecipe
    groups: list[list[int]]


class State(msgspec.Struct, frozen=True):
    """How far the training of a group of layers has come."""

    fills: int
    """finished fills"""
    step: int
    """finished steps"""
    seconds: float
    """spent on them"""


def finished_report(target: Path, recipe: SaesRecipe) -> SaesReport | None:
    """Return the report of SAEs that this recipe has made already; None if there are none.

    Raises:
        SaeError: the directory holds something else, which is not overwritten.
    """
    if not target.exists() or (target.is_dir() and not any(target.iterdir())):
        return None
    try:
        report = msgspec.json.decode((target / REPORT_FILE).read_bytes(), type=SaesReport)
    except (OSError, msgspec.DecodeError):
        raise SaeError(
            f"{target} exists and has no {REPORT_FILE} that this version can read",
            field=_FIELD,
            fix="choose another directory, or remove this one",
        ) from None
    if report.recipe != recipe:
        raise SaeError(
            f"{target} holds SAEs made from something else: {_differences(report.recipe, recipe)}",
            field=_FIELD,
            fix="choose another directory, or remove this one to train again",
        )
    return report


@contextmanager
def training_lock(work: Path) -> Iterator[None]:
    """Hold the lock of a training.

    Raises:
        SaeError: another process trains these SAEs, or the directory cannot be made.
    """
    try:
        work.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError, PermissionError) as error:
        raise SaeError(f"cannot make {work}: {error.strerror}", field=_FIELD, fix="choose another directory") from None
    busy = SaeError(f"another process is training in {work}", field=_FIELD, fix="wait for it, or stop it")
    with exclusive_lock(work / "lock", busy):
        yield


def begin_or_go_on(work: Path, recipe: SaesRecipe, groups: Callable[[], list[list[int]]]) -> Plan:
    """Return the plan of an unfinished training, or set one down.

    Args:
        work: directory of the unfinished training.
        recipe: what is to be trained.
        groups: decides which layers are trained together.

    Raises:
        SaeError: the unfinished training was begun with another recipe.
    """
    file = work / _PLAN_FILE
    if not file.exists():
        plan = Plan(recipe, groups())
        write_atomically(file, msgspec.json.encode(plan))
        return plan
    try:
        plan = msgspec.json.decode(file.read_bytes(), type=Plan)
    except msgspec.DecodeError:
        raise SaeError(
            f"{file} was not written by this version", field=_FIELD, fix=f"remove {work} to start over"
        ) from None
    if plan.recipe != recipe:
        raise SaeError(
            f"{work} holds an unfinished training that was begun otherwise: {_differences(plan.recipe, recipe)}",
            field=_FIELD,
            fix=f"put the former value back to go on, or remove {work} to start over",
        )
    return plan


def write_checkpoint(directory: Path, state: State, saes: Mapping[int, TrainableSae]) -> None:
    """Write a checkpoint of a group beside the last one, put it in its place, then remove the last one."""
    target, staged = directory / f"step-{state.step:09d}", directory / ".writing"
    shutil.rmtree(staged, ignore_errors=True)
    staged.mkdir(parents=True)
    tensors: dict[str, Tensor] = {}
    for layer, sae in saes.items():
        for name, value in sae.state_dict().items():
            tensors[f"{layer}.{name}"] = value
        for name, parameter in sae.named_parameters():
            for moment, value in sae.optimizer.state[parameter].items():
                tensors[f"{layer}.adam.{name}.{moment}"] = value
    save_file({name: value.contiguous().cpu() for name, value in tensors.items()}, staged / _TENSORS_FILE)
    write_atomically(staged / _STATE_FILE, msgspec.json.encode(state))
    fsync_tree(staged)
    rename_into_place(staged, target)
    for older in directory.glob("step-*"):
        if older != target:
            shutil.rmtree(older)


def read_checkpoint(directory: Path, saes: Mapping[int, TrainableSae]) -> State | None:
    """Load the newest checkpoint of a group into its SAEs; None if there is none."""
    found = sorted(directory.glob("step-*"))
    if not found:
        return None
    tensors = load_file(found[-1] / _TENSORS_FILE)
    for layer, sae in saes.items():
        own = {name.removeprefix(f"{layer}."): value for name, value in tensors.items() if name.startswith(f"{layer}.")}
        sae.load_state_dict({name: value for name, value in own.items() if not name.startswith("adam.")})
        for name, parameter in sae.named_parameters():
            prefix = f"adam.{name}."
            sae.optimizer.state[parameter] = {
                key.removeprefix(prefix): value.to(parameter.device)
                for key, value in own.items()
                if key.startswith(prefix)
            }
    return msgspec.json.decode((found[-1] / _STATE_FILE).read_bytes(), type=State)


def _differences(old: SaesRecipe, new: SaesRecipe) -> str:
    """Name the fields that differ, with both values."""
    return ", ".join(
        f"{field.name} was {getattr(old, field.name)!r} and is now {getattr(new, field.name)!r}"
        for field in msgspec.structs.fields(SaesRecipe)
        if getattr(old, field.name) != getattr(new, field.name)
    )
