"""Unfinished training beside the classifier's directory: what it is made from, and its newest complete checkpoint.

classifier.work/
    lock             held while a process trains
    recipe.json      what is being trained
    checkpoint-500/  written by transformers; complete once it has complete.json
    staged/          the finished classifier before it is renamed into place
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import msgspec

from tegakari.schemas.classifier import REPORT_FILE, ClassifierReport, FinetuneRecipe
from tegakari.schemas.errors import ModelError
from tegakari.store.disk.durable import exclusive_lock, fsync_tree, write_atomically

_RECIPE_FILE = "recipe.json"
_COMPLETE_FILE = "complete.json"
_FIELD = "classifier.path"


class Checkpoint(NamedTuple):
    """Where a killed training goes on from."""

    path: Path
    seconds: float
    """of training up to it"""


class _Complete(msgspec.Struct, frozen=True):
    seconds: float


def finished_report(target: Path, recipe: FinetuneRecipe) -> ClassifierReport | None:
    """Return the report of a classifier that this recipe has made already; None if there is no classifier.

    Raises:
        ModelError: the directory holds something else, which is not overwritten.
    """
    if not target.exists() or (target.is_dir() and not any(target.iterdir())):
        return None
    try:
        report = msgspec.json.decode((target / REPORT_FILE).read_bytes(), type=ClassifierReport)
    except (OSError, msgspec.DecodeError):
        raise ModelError(
            f"{target} exists and is not a classifier with a {REPORT_FILE} that this version can read",
            field=_FIELD,
            fix="choose another directory, or remove this one",
        ) from None
    if report.recipe != recipe:
        raise ModelError(
            f"{target} holds a classifier made from something else: {_differences(report.recipe, recipe)}",
            field=_FIELD,
            fix="choose another directory, or remove this one to train again",
        )
    return report


@contextmanager
def training_lock(work: Path) -> Iterator[None]:
    """Hold the lock of a training.

    Raises:
        ModelError: another process trains this classifier.
    """
    try:
        work.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError, PermissionError) as error:
        raise ModelError(
            f"cannot make {work}: {error.strerror}", field=_FIELD, fix="choose another directory"
        ) from None
    busy = ModelError(f"another process is training in {work}", field=_FIELD, fix="wait for it, or stop it")
    with exclusive_lock(work / "lock", busy):
        yield


def last_checkpoint(work: Path, recipe: FinetuneRecipe) -> Checkpoint | None:
    """Return the checkpoint to go on from, None to start at the beginning; what was left half-written is removed.

    Raises:
        ModelError: the work was begun with another recipe.
    """
    complete: list[Path] = []
    for checkpoint in sorted(work.glob("checkpoint-*"), key=_step):
        if (checkpoint / _COMPLETE_FILE).is_file():
            complete.append(checkpoint)
        else:
            shutil.rmtree(checkpoint)
    if complete:
        _check_same(work, recipe)
    write_atomically(work / _RECIPE_FILE, msgspec.json.encode(recipe))
    if not complete:
        return None
    newest = complete[-1]
    seconds = msgspec.json.decode((newest / _COMPLETE_FILE).read_bytes(), type=_Complete).seconds
    return Checkpoint(newest, seconds)


def keep_only(checkpoint: Path, seconds: float) -> None:
    """Declare a checkpoint complete once it is on the disk, then remove the older ones.

    Args:
        checkpoint: all of it is written.
        seconds: of training up to it.
    """
    fsync_tree(checkpoint)
    write_atomically(checkpoint / _COMPLETE_FILE, msgspec.json.encode(_Complete(seconds)))
    for other in checkpoint.parent.glob("checkpoint-*"):
        if other != checkpoint:
            shutil.rmtree(other)


def _step(checkpoint: Path) -> int:
    return int(checkpoint.name.rpartition("-")[2])


def _check_same(work: Path, recipe: FinetuneRecipe) -> None:
    start_over = f"put the former value back to go on, or remove {work} to start over"
    try:
        begun = msgspec.json.decode((work / _RECIPE_FILE).read_bytes(), type=FinetuneRecipe)
    except (OSError, msgspec.DecodeError):
        raise ModelError(
            f"{work} holds an unfinished training of which this version cannot read what it is made from",
            field=_FIELD,
            fix=f"remove {work} to start over",
        ) from None
    if begun != recipe:
        raise ModelError(
            f"{work} holds an unfinished training that was begun otherwise: {_differences(begun, recipe)}",
            field=_FIELD,
            fix=start_over,
        )


def _differences(old: FinetuneRecipe, new: FinetuneRecipe) -> str:
    """Name the fields that differ, with both values."""
    return ", ".join(
        f"{field.name} was {getattr(old, field.name)!r} and is now {getattr(new, field.name)!r}"
        for field in msgspec.structs.fields(FinetuneRecipe)
        if getattr(old, field.name) != getattr(new, field.name)
    )
