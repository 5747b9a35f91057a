"""A stopped fine-tuning resumes and ends with the weights of an uninterrupted one."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoTokenizer, BertConfig, BertForMaskedLM

from tegakari.indexer.training.classifier import finetune
from tegakari.schemas.config import Config
from tegakari.schemas.errors import DiskFullError, ModelError
from tests.support.finetune_case import CLUES, STEPS_PER_EPOCH, Case, acting_at, write_corpus
from tests.support.recorded_progress import ActingProgress


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """More threads do not speed up models of this size, and slow them down on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def case(tiny_gemma2_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Case:
    return Case(write_corpus(tmp_path_factory.mktemp("learnable"), CLUES), tiny_gemma2_dir)


PROGRAM = """
import sys, msgspec
from tegakari.indexer.training.classifier import finetune
from tegakari.schemas.config import Config
finetune(msgspec.json.decode(sys.argv[1], type=Config), device="cpu")
"""


def weights(path: Path) -> dict[str, torch.Tensor]:
    return load_file(path / "model.safetensors")


def assert_equal(left: Path, right: Path) -> None:
    left_weights, right_weights = weights(left), weights(right)
    assert left_weights.keys() == right_weights.keys()
    assert [name for name in left_weights if not torch.equal(left_weights[name], right_weights[name])] == []


def start(config: Config) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", PROGRAM, msgspec.json.encode(config).decode()]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)


def newest(work: Path) -> int:
    return max((int(file.parent.name.split("-")[1]) for file in work.glob("checkpoint-*/complete.json")), default=0)


def test_a_killed_training_resumes(case: Case, tmp_path: Path):
    uninterrupted, killed = tmp_path / "uninterrupted", tmp_path / "killed"
    settings = {"epochs": 8, "checkpoint_steps": 7}
    finetune(case.config(uninterrupted, **settings), device="cpu")
    config = case.config(killed, **settings)
    work = tmp_path / "killed.work"
    process = start(config)
    deadline = time.monotonic() + 120
    while newest(work) < 14 and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.002)
    os.kill(process.pid, signal.SIGKILL)
    _, stderr = process.communicate()
    assert process.returncode == -signal.SIGKILL, stderr
    assert 14 <= newest(work) < 8 * STEPS_PER_EPOCH
    assert not killed.exists()
    # The remains of a kill in the middle of the next checkpoint, which is not used.
    half = work / "checkpoint-9999"
    shutil.copytree(work / f"checkpoint-{newest(work)}", half)
    (half / "complete.json").unlink()
    (half / "model.safetensors").write_bytes(b"\0" * 100)
    report = finetune(config, device="cpu")
    assert report.steps == 8 * STEPS_PER_EPOCH
    assert not work.exists()
    assert_equal(uninterrupted, killed)


class Stopped(BaseException):
    pass


def stop() -> None:
    raise Stopped


@pytest.fixture(scope="module")
def bert_case(case: Case, tiny_tokenizer: Path, tmp_path_factory: pytest.TempPathFactory) -> Case:
    """A model with dropout: resuming must also restore the random state."""
    path = tmp_path_factory.mktemp("bert")
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=512, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2
    )
    BertForMaskedLM(config).save_pretrained(path)
    AutoTokenizer.from_pretrained(tiny_tokenizer).save_pretrained(path)
    return Case(case.corpus, path)


@pytest.fixture(scope="module")
def uninterrupted(bert_case: Case, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("uninterrupted") / "classifier"
    finetune(bert_case.config(path, epochs=3), device="cpu")
    return path


@pytest.mark.parametrize(
    ("checkpoint_steps", "stop_step"),
    [(5, 13), (STEPS_PER_EPOCH, 2 * STEPS_PER_EPOCH + 2), (1000, 3 * STEPS_PER_EPOCH)],
    ids=["within an epoch", "between epochs", "after the last step"],
)
def test_dropout_resumes_with_its_random_state(
    bert_case: Case, uninterrupted: Path, tmp_path: Path, checkpoint_steps: int, stop_step: int
):
    config = bert_case.config(tmp_path / "classifier", epochs=3, checkpoint_steps=checkpoint_steps)
    with pytest.raises(Stopped):
        finetune(config, device="cpu", progress=acting_at(stop_step, stop))
    torch.rand(5)
    finetune(config, device="cpu")
    assert_equal(uninterrupted, tmp_path / "classifier")


def test_stopped_between_training_and_publication(bert_case: Case, uninterrupted: Path, tmp_path: Path):
    """The weights exist and the scores do not: no step of the training is repeated."""
    config = bert_case.config(tmp_path / "classifier", epochs=3)
    with pytest.raises(Stopped):
        finetune(config, device="cpu", progress=ActingProgress("evaluating", 0, stop))
    assert newest(tmp_path / "classifier.work") == 3 * STEPS_PER_EPOCH
    repeated: list[int] = []
    finetune(config, device="cpu", progress=acting_at(1, lambda: repeated.append(1)))
    assert repeated == []
    assert_equal(uninterrupted, tmp_path / "classifier")


@pytest.fixture
def stopped(case: Case, tmp_path: Path) -> Path:
    with pytest.raises(Stopped):
        finetune(case.config(tmp_path / "c", epochs=2, checkpoint_steps=5), device="cpu", progress=acting_at(8, stop))
    return tmp_path / "c"


def test_other_settings_are_refused_and_the_error_names_the_difference(case: Case, stopped: Path):
    with pytest.raises(ModelError, match=r"learning_rate was 0.003 and is now 0.001") as caught:
        finetune(case.config(stopped, epochs=2, learning_rate=1e-3), device="cpu")
    assert caught.value.field == "classifier.path"
    assert f"remove {stopped}.work" in (caught.value.fix or "")
    finetune(
        case.config(stopped, epochs=2, checkpoint_steps=50), device="cpu"
    )  # the interval of checkpoints does not affect the weights


def test_a_changed_corpus_is_refused(case: Case, stopped: Path, tmp_path: Path):
    other = Case(write_corpus(tmp_path / "other", {"a": "MTG", "b": "笑顔"}), case.base)
    with pytest.raises(ModelError, match="corpus_sha256 was"):
        finetune(other.config(stopped), device="cpu")
    shutil.rmtree(f"{stopped}.work")
    assert len(finetune(other.config(stopped, epochs=1), device="cpu").classifier.labels) == 2


def test_two_processes_do_not_train_one_classifier(case: Case, tmp_path: Path):
    config = case.config(tmp_path / "c", epochs=1)
    refused: list[str] = []

    def second() -> None:
        with pytest.raises(ModelError, match="another process is training") as caught:
            finetune(config, device="cpu")
        refused.append(caught.value.message)

    finetune(config, device="cpu", progress=acting_at(2, second))
    assert len(refused) == 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
@pytest.mark.parametrize("file", ["optimizer.pt", "trainer_state.json"])
def test_a_full_disk_is_reported_and_the_last_checkpoint_kept(case: Case, tmp_path: Path, file: str):
    config = case.config(tmp_path / "c", epochs=2, checkpoint_steps=5)

    def fill() -> None:
        (tmp_path / "c.work/checkpoint-10").mkdir()
        (tmp_path / "c.work/checkpoint-10" / file).symlink_to("/dev/full")

    with pytest.raises(DiskFullError, match="no space") as caught:
        finetune(config, device="cpu", progress=acting_at(7, fill))
    assert caught.value.field == "classifier.path"
    assert newest(tmp_path / "c.work") == 5
    assert finetune(config, device="cpu").steps == 2 * STEPS_PER_EPOCH
