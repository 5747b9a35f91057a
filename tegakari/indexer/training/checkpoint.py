"""Directories of a training: the trained model, and beside it the checkpoints that a stopped training resumes from.

<target>/                   the trained model and its report; whole or absent
<target>.work/
    lock                    held while a process trains
    recipe.json             the inputs and settings of the training
    **/checkpoint-500/      state after step 500; complete once it holds complete.json
    staged/                 the trained model before it is renamed to <target>
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, NamedTuple, TypeVar

import msgspec

from tegakari.schemas.classifier import ClassifierReport, FinetuneRecipe
from tegakari.schemas.config import is_remote
from tegakari.schemas.decoding import decode_json
from tegakari.schemas.errors import ConfigError, TegakariError
from tegakari.schemas.saes import SaesRecipe, SaesReport
from tegakari.store.disk.durable import exclusive_lock, fsync_tree, staged_directory, write_atomically

_RECIPE_FILE = "recipe.json"
_COMPLETE_FILE = "complete.json"

Recipe = FinetuneRecipe | SaesRecipe
Report = TypeVar("Report", ClassifierReport, SaesReport)


def target_directory(path: str, field: str) -> Path:
    """Directory to write a trained model to, from a configuration.

    Raises:
        ConfigError: the path is that of a repository.
    """
    if is_remote(path):
        raise ConfigError(
            f"{path!r} is a repository, which no training writes to", field=field, fix="name a directory for the result"
        )
    return Path(path)


@dataclass(frozen=True)
class Training(Generic[Report]):
    """The directories of one training, and the errors that they raise."""

    target: Path
    """directory of the trained model."""
    recipe: Recipe
    """inputs and settings of this training."""
    report_file: str
    """name of the report in `target`."""
    report_type: type[Report]
    error: type[TegakariError]
    """class of the errors raised here."""
    field: str
    """configuration key that names `target`."""

    @property
    def work(self) -> Path:
        """Directory of the unfinished training, beside `target`."""
        return self.target.with_name(f"{self.target.name}.work")

    def finished_report(self) -> Report | None:
        """Return the report of a model that was trained with this recipe; None if `target` is absent or empty.

        Raises:
            TegakariError: `target` holds something else, which is not overwritten. Of class `error`, as below.
        """
        if not self.target.exists() or (self.target.is_dir() and not any(self.target.iterdir())):
            return None
        try:
            report = decode_json((self.target / self.report_file).read_bytes(), self.report_type)
        except (OSError, msgspec.DecodeError):
            raise self.error(
                f"{self.target} exists and has no {self.report_file} that this version can read",
                field=self.field,
                fix="choose another directory, or remove this one",
            ) from None
        if report.recipe != self.recipe:
            raise self.error(
                f"{self.target} was trained from other inputs: {_differences(report.recipe, self.recipe)}",
                field=self.field,
                fix="choose another directory, or remove this one to train again",
            )
        return report

    @contextmanager
    def staged(self) -> Iterator[Path]:
        """An empty directory for the trained model, which becomes `target` after the block; `work` is removed then.

        For the block, the lock of the training is held, and `work` holds checkpoints of this recipe or none. What a
        training without a complete checkpoint left behind is removed. If the block fails, checkpoints stay.

        Raises:
            TegakariError: another process holds the lock; `work` cannot be created; or its checkpoints belong to a
                training with another recipe.
        """
        with self._lock():
            self._resume_or_start()
            with staged_directory(self.target, self.work / "staged") as staged:
                yield staged
            shutil.rmtree(self.work)

    def write_report(self, directory: Path, report: Report) -> None:
        """Write the report into the directory of the trained model."""
        (directory / self.report_file).write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=1))

    @contextmanager
    def _lock(self) -> Iterator[None]:
        try:
            self.work.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError, PermissionError) as error:
            raise self.error(
                f"cannot create {self.work}: {error.strerror}", field=self.field, fix="choose another directory"
            ) from None
        busy = self.error(
            f"another process is training in {self.work}", field=self.field, fix="wait for it, or stop it"
        )
        with exclusive_lock(self.work / "lock", busy):
            yield

    def _resume_or_start(self) -> None:
        file = self.work / _RECIPE_FILE
        if any(self.work.glob(f"**/{_COMPLETE_FILE}")):
            self._check_recipe(file)
        else:
            for entry in self.work.iterdir():
                if entry.is_dir():
                    shutil.rmtree(entry)
                elif entry.name != "lock":
                    entry.unlink()
            write_atomically(file, msgspec.json.encode(self.recipe))

    def _check_recipe(self, file: Path) -> None:
        try:
            recipe = decode_json(file.read_bytes(), type(self.recipe))
        except (OSError, msgspec.DecodeError):
            raise self.error(
                f"{self.work} holds an unfinished training whose {_RECIPE_FILE} this version cannot read",
                field=self.field,
                fix=f"remove {self.work} to start over",
            ) from None
        if recipe != self.recipe:
            raise self.error(
                f"{self.work} holds an unfinished training of other inputs: {_differences(recipe, self.recipe)}",
                field=self.field,
                fix=f"restore the former value to resume it, or remove {self.work} to start over",
            )


def _differences(former: Recipe, current: Recipe) -> str:
    """Name the fields that differ, with both values."""
    return ", ".join(
        f"{field} was {getattr(former, field)!r} and is now {getattr(current, field)!r}"
        for field in current.__struct_fields__
        if getattr(former, field) != getattr(current, field)
    )


class _Complete(msgspec.Struct, frozen=True):
    """complete.json of a checkpoint; fields as of `Checkpoint`."""

    step: int
    seconds: float


class Checkpoint(NamedTuple):
    """A complete checkpoint."""

    path: Path
    step: int
    """steps finished."""
    seconds: float
    """training time up to the checkpoint, over all attempts."""


def checkpoint_directory(directory: Path, step: int) -> Path:
    """Directory of the checkpoint after a step; transformers' Trainer names its own in the same way."""
    return directory / f"checkpoint-{step}"


def newest_checkpoint(directory: Path) -> Checkpoint | None:
    """Return the newest complete checkpoint in a directory, None without one; incomplete checkpoints are removed."""
    complete: list[Checkpoint] = []
    for path in directory.glob("checkpoint-*"):
        try:
            state = decode_json((path / _COMPLETE_FILE).read_bytes(), _Complete)
        except (FileNotFoundError, msgspec.DecodeError):
            shutil.rmtree(path)
        else:
            complete.append(Checkpoint(path, state.step, state.seconds))
    return max(complete, key=lambda checkpoint: checkpoint.step, default=None)


def complete_checkpoint(checkpoint: Checkpoint) -> None:
    """Flush a checkpoint, mark it complete, then remove the older ones beside it.

    Args:
        checkpoint: all of its files are written.
    """
    fsync_tree(checkpoint.path)
    state = _Complete(checkpoint.step, checkpoint.seconds)
    write_atomically(checkpoint.path / _COMPLETE_FILE, msgspec.json.encode(state))
    for other in checkpoint.path.parent.glob("checkpoint-*"):
        if other != checkpoint.path:
            shutil.rmtree(other)
