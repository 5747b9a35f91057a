"""Directories of a training: lock, recipe, checkpoints, publication."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import msgspec
import pytest

from tegakari.indexer.training.checkpoint import (
    Checkpoint,
    Training,
    checkpoint_directory,
    complete_checkpoint,
    newest_checkpoint,
)
from tegakari.schemas.classifier import REPORT_FILE, ClassifierReport, FinetuneRecipe
from tegakari.schemas.errors import ModelError

RECIPE = FinetuneRecipe(
    base_sha256="b",
    corpus_sha256="c",
    max_length=24,
    learning_rate=1e-3,
    weight_decay=0.0,
    epochs=2,
    batch_size=8,
    seed=0,
    precision="float32",
)


def training_of(target: Path, recipe: FinetuneRecipe = RECIPE) -> Training[ClassifierReport]:
    return Training(target, recipe, REPORT_FILE, ClassifierReport, ModelError, "classifier.path")


def write_checkpoint(directory: Path, step: int) -> Path:
    path = checkpoint_directory(directory, step)
    path.mkdir(parents=True)
    (path / "weights").write_bytes(b"weights")
    return path


class InterruptedTrainingError(Exception):
    pass


def interrupt(training: Training[ClassifierReport], step: int | None) -> None:
    """Start a training and end it, after a complete checkpoint if `step` is given."""
    with suppress(InterruptedTrainingError), training.staged():
        if step is not None:
            path = write_checkpoint(training.work / "group-00", step)
            complete_checkpoint(Checkpoint(path, step, 1.5))
        raise InterruptedTrainingError


def test_the_newest_complete_checkpoint_is_by_step_and_incomplete_ones_are_removed(tmp_path: Path):
    assert newest_checkpoint(tmp_path) is None
    for step in (90, 100):
        path = write_checkpoint(tmp_path, step)
        (path / "complete.json").write_text(f'{{"step": {step}, "seconds": 2.5}}')
    incomplete = write_checkpoint(tmp_path, 200)
    assert newest_checkpoint(tmp_path) == Checkpoint(tmp_path / "checkpoint-100", 100, 2.5)
    assert not incomplete.exists()


def test_a_completed_checkpoint_replaces_the_older_ones(tmp_path: Path):
    write_checkpoint(tmp_path, 5)
    checkpoint = Checkpoint(write_checkpoint(tmp_path, 10), 10, 3.0)
    complete_checkpoint(checkpoint)
    assert newest_checkpoint(tmp_path) == checkpoint
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-10"]


def test_the_staged_directory_becomes_the_target(tmp_path: Path):
    training = training_of(tmp_path / "classifier")
    with training.staged() as staged:
        (staged / "weights").write_bytes(b"weights")
        assert not training.target.exists()
    assert [path.name for path in training.target.iterdir()] == ["weights"]
    assert not training.work.exists()


def test_an_interrupted_training_keeps_its_checkpoints_for_its_recipe_alone(tmp_path: Path):
    training = training_of(tmp_path / "classifier")
    interrupt(training, step=4)
    other = training_of(tmp_path / "classifier", msgspec.structs.replace(RECIPE, epochs=3, seed=1))
    message = "unfinished training of other inputs: epochs was 2 and is now 3, seed was 0 and is now 1"
    with pytest.raises(ModelError, match=message) as caught, other.staged():
        pass
    assert caught.value.field == "classifier.path"
    with training.staged():
        checkpoint = newest_checkpoint(training.work / "group-00")
    assert checkpoint is not None
    assert (checkpoint.step, checkpoint.seconds) == (4, 1.5)


def test_an_unreadable_recipe_of_checkpoints_is_refused(tmp_path: Path):
    training = training_of(tmp_path / "classifier")
    interrupt(training, step=4)
    (training.work / "recipe.json").write_text("{}")
    with pytest.raises(ModelError, match="cannot read"), training.staged():
        pass


def test_a_training_without_a_complete_checkpoint_starts_over_with_any_recipe(tmp_path: Path):
    training = training_of(tmp_path / "classifier")
    interrupt(training, step=None)
    write_checkpoint(training.work / "group-00", 4)
    (training.work / "groups.json").write_text("[[0], [1]]")
    other = training_of(tmp_path / "classifier", msgspec.structs.replace(RECIPE, epochs=3))
    with other.staged() as staged:
        assert sorted(path.name for path in other.work.iterdir()) == ["lock", "recipe.json", staged.name]
        assert msgspec.json.decode((other.work / "recipe.json").read_bytes(), type=FinetuneRecipe) == other.recipe


def test_a_second_process_is_refused(tmp_path: Path):
    training = training_of(tmp_path / "classifier")
    with training.staged(), pytest.raises(ModelError, match="another process is training"), training.staged():
        pass
