"""SAE training in several processes: the SAEs are those of one process, and errors name the rank at fault."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
import torch

from tegakari.indexer.training.saes import processes, train_saes, train_saes_on_devices
from tegakari.indexer.training.saes.ranks import Ranks, layers_of_ranks
from tegakari.schemas.config import Config
from tegakari.schemas.errors import ConfigError, CorpusError, ModelError, SaeError, TegakariError
from tests.support.recorded_progress import ActingProgress, RecordedProgress
from tests.support.sae_training import sae_config
from tests.support.small_case import SmallCase

SETTINGS = {"epochs": 2, "checkpoint_steps": 6, "buffer_positions": 100}
STAGE = "training SAEs of layers 0 to 2"


@pytest.fixture(autouse=True)
def _fork(monkeypatch: pytest.MonkeyPatch):
    """New processes import torch and transformers for seconds; tests/soak starts them as the command does."""
    monkeypatch.setattr(processes, "START_METHOD", "fork")


def sae_files(directory: Path) -> dict[str, bytes]:
    return {str(path.relative_to(directory)): path.read_bytes() for path in sorted(directory.glob("*/*"))}


@pytest.fixture(scope="module")
def trained(small_case: SmallCase, tmp_path_factory: pytest.TempPathFactory):
    path = tmp_path_factory.mktemp("one-process") / "saes"
    return small_case, path, train_saes(sae_config(small_case, path, **SETTINGS))


def test_owners_have_runs_of_layers_of_nearly_equal_length():
    for count in range(1, 9):
        owners = layers_of_ranks(list(range(2, 26)), count)
        assert [layer for layers in owners for layer in layers] == list(range(2, 26))
        sizes = [len(layers) for layers in owners]
        assert sizes == sorted(sizes, reverse=True)
        assert max(sizes) - min(sizes) <= 1
    assert layers_of_ranks([4, 7], 3) == [[4], [7], []]


def test_two_devices_train_the_saes_of_one(trained, tmp_path: Path):
    case, path, one = trained
    progress = RecordedProgress()
    report = train_saes_on_devices(sae_config(case, tmp_path / "saes", **SETTINGS), devices=2, progress=progress)
    assert sae_files(tmp_path / "saes") == sae_files(path)
    assert (report.layers, report.steps, report.recipe) == (one.layers, one.steps, one.recipe)
    assert (report.train_positions, report.eval_positions) == (one.train_positions, one.eval_positions)
    assert (report.devices, one.devices) == (2, 1)
    assert progress.ends == {STAGE: (one.steps, one.steps), "measuring on evaluation documents": (48, 48)}
    again = train_saes_on_devices(sae_config(case, tmp_path / "saes", **SETTINGS), devices=3, progress=progress)
    assert again == report  # a finished set is not trained again


def test_a_killed_rank_is_named_and_any_number_of_devices_resumes(trained, tmp_path: Path):
    case, path, one = trained

    def kill() -> None:
        (rank,) = [process for process in multiprocessing.active_children() if process.name == "rank 1"]
        assert rank.pid is not None
        os.kill(rank.pid, signal.SIGKILL)

    config = sae_config(case, tmp_path / "saes", **SETTINGS)
    with pytest.raises(SaeError, match=r"rank 1 of 2 \(process \d+\) was killed by SIGKILL"):
        train_saes_on_devices(config, devices=2, progress=ActingProgress(STAGE, one.steps // 2 + 1, kill))
    assert multiprocessing.active_children() == []
    assert list((tmp_path / "saes.work").glob("*/*/complete.json"))
    resumed = RecordedProgress()
    train_saes(config, progress=resumed)
    assert resumed.steps[0] > (0, one.steps)
    assert sae_files(tmp_path / "saes") == sae_files(path)


def with_other_batches(config: Config) -> Config:
    return msgspec.structs.replace(config, index=msgspec.structs.replace(config.index, batch_tokens=99))


def without_corpus(config: Config) -> Config:
    return msgspec.structs.replace(config, corpus=msgspec.structs.replace(config.corpus, path="absent"))


def in_another_directory(config: Config) -> Config:
    os.chdir("/")
    return config


@pytest.mark.parametrize(
    ("change", "error", "field", "message"),
    [
        (with_other_batches, ConfigError, "index.batch_tokens", "99 on rank 1, and 100 on rank 0"),
        (without_corpus, CorpusError, "corpus.path", "absent"),
        (in_another_directory, SaeError, "saes.path", r"rank 1 does not see saes\.work/staged"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_an_error_of_one_rank_ends_the_command(
    trained,
    change: Callable[[Config], Config],
    error: type[TegakariError],
    field: str,
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    case, _, _ = trained
    train_rank = processes._train_rank

    def with_change_on_one(config: Config, ranks: Ranks, *arguments) -> None:
        train_rank(change(config) if ranks.rank == 1 else config, ranks, *arguments)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(processes, "_train_rank", with_change_on_one)
    with pytest.raises(error, match=message) as caught:
        train_saes_on_devices(sae_config(case, Path("saes")), devices=2)
    assert caught.value.field == field
    assert multiprocessing.active_children() == []
    assert not Path("saes").exists()


def test_devices_that_there_are_not_are_refused(trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    case, _, _ = trained
    config = sae_config(case, tmp_path / "saes")
    with pytest.raises(SaeError, match="4 devices for 3 layers") as caught:
        train_saes_on_devices(config, devices=4)
    assert caught.value.fix == "use 3 at most"
    if not torch.cuda.is_available():
        with pytest.raises(ModelError, match="'cuda', but no GPU is usable"):
            train_saes_on_devices(config, devices=2, device="cuda")
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ConfigError, match="RANK=0, WORLD_SIZE=2, LOCAL_RANK=, LOCAL_WORLD_SIZE= of the environment"):
        train_saes(config)
    monkeypatch.setenv("LOCAL_RANK", "0")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    with pytest.raises(ConfigError, match="torchrun has started this process"):
        train_saes_on_devices(config, devices=2)
