"""SAE training on a real classifier: the report is true; kills and groups of layers do not change the SAEs."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest
import torch
from safetensors.torch import load_file

from tegakari.indexer.corpus import import_corpus
from tegakari.indexer.training.saes import layer_group, memory_groups, train_saes
from tegakari.models.classifier import Classifier
from tegakari.models.loading import load_classifier
from tegakari.models.sae_formats import load_saes
from tegakari.schemas.config import load_config
from tegakari.schemas.config.render import render_config
from tegakari.schemas.errors import CorpusError, SaeError
from tegakari.schemas.progress import NoProgress
from tegakari.store.disk.durable import exclusive_lock
from tests.support.sae_training import sae_config
from tests.support.small_case import SmallCase


class Notes(NoProgress):
    """Collects the notes."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


@pytest.fixture(scope="module")
def trained(small_case: SmallCase, tmp_path_factory: pytest.TempPathFactory):
    path = tmp_path_factory.mktemp("saes") / "trained"
    return small_case, path, train_saes(sae_config(small_case, path))


def test_the_report_agrees_with_the_formula(trained):
    """Explained variance, L0 and dead share by a second implementation: dense, float64, one document at a time."""
    case, path, report = trained
    classifier = load_classifier(case.config.classifier.path, max_length=24, device="cpu")
    saes = load_saes(path)
    assert sorted(saes) == [layer.layer for layer in report.layers] == list(range(classifier.layers))
    residuals: dict[int, list[torch.Tensor]] = {layer: [] for layer in saes}
    for document in case.documents:
        if document[2] == "eval":
            batch = classifier.batch(classifier.tokenize([document[3]]))
            classifier.run(batch, lambda layer, residual: residuals[layer].append(residual.double()))
    for layer in report.layers:
        sae, h = saes[layer.layer], torch.cat(residuals[layer.layer])
        a = torch.relu((h - sae.b_dec.double()) @ sae.W_enc.double() + sae.b_enc.double())
        h_hat = a @ sae.W_dec.double() + sae.b_dec.double()
        expected = 1 - (h - h_hat).square().sum() / (h - h.mean(0)).square().sum()
        assert layer.explained_variance == pytest.approx(expected.item(), abs=1e-4)
        assert layer.l0 == pytest.approx((a > 0).sum(1).double().mean().item(), rel=1e-2)
        assert layer.dead_share == pytest.approx(((a > 0).sum(0) == 0).double().mean().item(), abs=0.05)
        assert layer.explained_variance > 0.3  # the SAE has learned
        norms = sae.W_dec.norm(dim=1)
        torch.testing.assert_close(norms * layer.input_scale, torch.ones_like(norms))
        assert layer.l1_coefficient == 0.17
        assert 0 < layer.norms.median <= layer.norms.max
        assert layer.norms.mean * layer.input_scale == pytest.approx(classifier.d_model**0.5)
    assert report.eval_positions == len(torch.cat(residuals[0]))
    assert report.recipe.precision == "float32"
    assert report.positions_per_second is not None
    assert 3 * report.train_positions / report.positions_per_second < report.seconds  # three epochs
    assert report.flop_per_second is not None
    assert report.flop_per_second > report.positions_per_second * 5 * 2 * 32 * 64 * 3  # steps alone are faster
    assert report.doubts == [f"The SAEs had {report.steps} optimizer steps; with fewer than 2000 they are unfinished."]


def test_a_finished_training_is_not_repeated_and_other_settings_are_refused(trained):
    case, path, report = trained
    config = sae_config(case, path)
    assert train_saes(config) == report
    batched = msgspec.structs.replace(config, index=msgspec.structs.replace(config.index, batch_tokens=50))
    assert train_saes(batched) == report
    with pytest.raises(SaeError, match=r"l1_coefficient was 0\.17 and is now 0\.2") as caught:
        train_saes(sae_config(case, path, l1_coefficient=0.2))
    assert caught.value.field == "saes.path"
    with pytest.raises(SaeError, match="layers 0 to 2, not 9"):
        train_saes(sae_config(case, path.with_name("other"), layers=[9]))
    with pytest.raises(SaeError, match="64 active features per position, of 64"):
        train_saes(sae_config(case, path.with_name("other"), architecture="batch_topk", k=64))
    with pytest.raises(SaeError, match="64 active features per position, of 64") as caught:
        train_saes(sae_config(case, path.with_name("other"), target_l0=64))
    assert caught.value.field == "saes.target_l0"
    with pytest.raises(SaeError, match=r"10, but the architecture is batch_topk, where saes\.k decides") as caught:
        train_saes(sae_config(case, path.with_name("other"), architecture="batch_topk", k=4, target_l0=10))
    assert (caught.value.field, caught.value.fix) == ("saes.target_l0", 'set it to 0, or saes.architecture to "relu"')
    with pytest.raises(SaeError, match=r"has no training\.json"):
        train_saes(sae_config(case, path / "layer_00"))


def test_layers_can_be_chosen(trained, tmp_path: Path):
    case, path, _ = trained
    train_saes(sae_config(case, tmp_path / "saes", layers=[2, 0]))
    assert_same_saes(path, tmp_path / "saes", [0, 2])


def test_groups_of_layers_do_not_change_the_saes(trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    case, path, report = trained
    config = sae_config(case, tmp_path / "saes")
    needed = memory_groups.layer_bytes(config.saes, 32, torch.float32)
    assert needed == 120 * 32 * 4 + 4 * 2 * 32 * 64 * 4
    copies = memory_groups.layer_bytes(config.saes, 32, torch.float32, "bfloat16") - needed
    assert copies == 2 * 32 * 64 * 2
    monkeypatch.setattr(memory_groups, "free_bytes", lambda device: int(2 * needed / memory_groups.MEMORY_SHARE))
    grouped = train_saes(config)
    assert_same_saes(path, tmp_path / "saes", [0, 1, 2])
    assert grouped.layers == report.layers
    monkeypatch.setattr(memory_groups, "free_bytes", lambda device: needed - 1)
    with pytest.raises(SaeError, match="training one layer takes"):
        train_saes(sae_config(case, tmp_path / "other"))


def test_free_memory_is_plausible():
    assert 2**20 < memory_groups.free_bytes(torch.device("cpu")) < 2**50


def test_residuals_that_fit_into_the_buffer_are_computed_once(trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    case, _, _ = trained
    calls: list[int] = []
    run = Classifier.run_blocks

    def counted(self, batch, *arguments):
        calls.append(len(batch.positions))
        return run(self, batch, *arguments)

    monkeypatch.setattr(Classifier, "run_blocks", counted)
    progress = Notes()
    report = train_saes(sae_config(case, tmp_path / "saes", buffer_positions=10_000), progress=progress)
    assert sum(calls) == report.train_positions + report.eval_positions
    total = f"{report.train_positions:,}"
    assert progress.notes[-2:] == [f"residuals of {total} of {total} positions", ""]


def test_a_diverging_training_ends_with_an_error(trained, tmp_path: Path):
    case, _, _ = trained
    with pytest.raises(SaeError, match="layer 0 diverged") as caught:
        train_saes(sae_config(case, tmp_path / "saes", learning_rate=1e30))
    assert caught.value.field == "saes.learning_rate"
    assert not (tmp_path / "saes").exists()


def test_two_processes_do_not_train_the_same_saes(trained, tmp_path: Path):
    case, _, _ = trained
    work = tmp_path / "saes.work"
    work.mkdir()
    with exclusive_lock(work / "lock", SaeError("locked")), pytest.raises(SaeError, match="another process"):
        train_saes(sae_config(case, tmp_path / "saes"))


def test_a_corpus_without_evaluation_documents_is_refused(trained, tmp_path: Path):
    case, _, _ = trained
    posts = [json.loads(line) for line in Path(case.config.corpus.source).read_text().splitlines()]
    (tmp_path / "posts.jsonl").write_text("".join(json.dumps({**post, "split": "train"}) + "\n" for post in posts))
    corpus = msgspec.structs.replace(
        case.config.corpus, source=str(tmp_path / "posts.jsonl"), path=str(tmp_path / "corpus")
    )
    import_corpus(corpus)
    config = msgspec.structs.replace(sae_config(case, tmp_path / "saes"), corpus=corpus)
    with pytest.raises(CorpusError, match="no evaluation documents"):
        train_saes(config)


def assert_same_saes(one: Path, other: Path, layers: Sequence[int]) -> None:
    assert set(layers) == set(load_saes(other))
    for layer in layers:
        name = Path(f"layer_{layer:02d}") / "sae_weights.safetensors"
        left, right = load_file(one / name), load_file(other / name)
        for key, value in left.items():
            assert torch.equal(value, right[key]), (layer, key)


def test_a_killed_training_resumes_with_the_same_saes(trained, tmp_path: Path):
    case, path, _ = trained
    config_file = tmp_path / "tegakari.toml"
    config_file.write_text(render_config(sae_config(case, tmp_path / "saes")))
    assert load_config(config_file).saes.path == str(tmp_path / "saes")
    program = (
        "import sys, time; from tegakari.indexer.training.saes import layer_group; fill = layer_group._train_fill; "
        "layer_group._train_fill = lambda *a: (time.sleep(0.1), fill(*a))[1]; "
        "from tegakari.cli import main; sys.argv = ['tegakari', 'sae', 'train', '-c', sys.argv[1]]; main()"
    )
    work = tmp_path / "saes.work"
    process = subprocess.Popen(
        [sys.executable, "-c", program, str(config_file)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 120
    while not list(work.glob("*/*/complete.json")) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert list(work.glob("*/*/complete.json"))
    assert not (tmp_path / "saes").exists()
    with pytest.raises(SaeError, match=r"of other inputs: learning_rate was 0\.01 and is now 0\.1"):
        train_saes(sae_config(case, tmp_path / "saes", learning_rate=0.1))
    train_saes(load_config(config_file))
    assert not work.exists()
    assert_same_saes(path, tmp_path / "saes", [0, 1, 2])


@pytest.mark.parametrize("sparsity", [{}, {"target_l0": 24}, {"architecture": "batch_topk", "k": 4}], ids=str)
def test_a_training_stopped_at_every_fill_gives_the_same_saes(
    trained, sparsity: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """A checkpoint holds all that the next step depends on: moments, cuts, coefficients, silent features, groups."""
    case, _, _ = trained
    settings = {**sparsity, "checkpoint_steps": 1}
    uninterrupted = train_saes(sae_config(case, tmp_path / "uninterrupted", **settings))
    needed = memory_groups.layer_bytes(sae_config(case, tmp_path).saes, 32, torch.float32) / memory_groups.MEMORY_SHARE
    train_fill = layer_group._train_fill
    finished: list[int] = []

    def one_fill(fill, *arguments):
        if finished:
            raise KeyboardInterrupt
        finished.append(fill.number)
        return train_fill(fill, *arguments)

    monkeypatch.setattr(layer_group, "_train_fill", one_fill)
    attempts = 0
    while not (tmp_path / "saes").exists():
        attempts += 1
        # Free memory differs between attempts; the groups of the first attempt stay.
        monkeypatch.setattr(memory_groups, "free_bytes", lambda device, n=attempts: (1 + n) * needed)
        finished.clear()
        with contextlib.suppress(KeyboardInterrupt):
            train_saes(sae_config(case, tmp_path / "saes", **settings))
    assert attempts > 10
    assert_same_saes(tmp_path / "uninterrupted", tmp_path / "saes", [0, 1, 2])
    resumed = train_saes(sae_config(case, tmp_path / "saes", **settings))
    assert resumed.layers == uninterrupted.layers
    coefficients = {layer.l1_coefficient for layer in resumed.layers}
    if "target_l0" in sparsity:
        assert len(coefficients) == 3  # each layer has its own
    else:
        assert coefficients == ({0.17} if sparsity == {} else {None})


def test_an_incomplete_checkpoint_is_removed(trained, tmp_path: Path):
    case, path, _ = trained
    incomplete = tmp_path / "saes.work" / "group-00" / "checkpoint-8"
    incomplete.mkdir(parents=True)
    (incomplete / "tensors.safetensors").write_bytes(b"half")
    (tmp_path / "saes.work" / "staged" / "layer_07").mkdir(parents=True)
    train_saes(sae_config(case, tmp_path / "saes"))
    assert_same_saes(path, tmp_path / "saes", [0, 1, 2])
