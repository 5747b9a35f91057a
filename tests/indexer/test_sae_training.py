"""SAE training: planted directions are recovered, a killed run gives the same SAEs, and the report is true."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from tegakari.indexer.sae import train_saes
from tegakari.indexer.sae.fills import batches_of, plan_fills
from tegakari.indexer.sae.trainable import TrainableSae
from tegakari.models.classifier import load_classifier
from tegakari.models.sae_formats import load_saes
from tegakari.schemas.config import Config, load_config
from tegakari.schemas.errors import SaeError
from tegakari.schemas.render import render_config
from tests.indexer.conftest import SmallCase


def planted_data(positions: int, d_model: int, true_features: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Sparse positive sums of unit directions, around a mean that is far from zero; [P, d], [features, d]."""
    generator = torch.Generator().manual_seed(seed)
    directions = torch.nn.functional.normalize(torch.randn(true_features, d_model, generator=generator), dim=1)
    active = torch.rand(positions, true_features, generator=generator) < 3 / true_features
    amounts = active * (1 + torch.rand(positions, true_features, generator=generator))
    return amounts @ directions * 5 + torch.randn(d_model, generator=generator) * 3, directions


@pytest.mark.parametrize("architecture", ["relu", "batch_topk"])
def test_planted_directions_are_recovered(architecture):
    h, directions = planted_data(20_000, 32, 48)
    sae = TrainableSae(
        32, 96, architecture=architecture, k=4, learning_rate=3e-3, seed=0, device=torch.device("cpu")
    )  # fmt: skip
    sae.start_from(h)
    steps = 700
    generator = torch.Generator().manual_seed(1)
    for step in range(steps):
        rows = torch.randint(0, len(h), (512,), generator=generator)
        rate = 3e-3 * min(1, (steps - step) / (0.3 * steps))
        sae.step(h[rows], l1=0.4 * min(1, step / 50), learning_rate=rate)
        if step in (200, 350):
            sae.resample_silent(h[rows], seed=step)
    finished = sae.finished(0)
    norms = finished.decoder_directions().norm(dim=1, keepdim=True)
    cosine = (directions @ (finished.decoder_directions() / norms).T).max(1).values
    assert (cosine > 0.9).float().mean() > 0.9
    pre = h @ finished.encoder(torch.float32).weight + finished.encoder(torch.float32).bias
    a = pre * (pre > finished.encoder(torch.float32).threshold)
    explained = 1 - (h - finished.decode(a)).square().sum() / (h - h.mean(0)).square().sum()
    assert explained > 0.85
    assert 2 < (a > 0).float().sum(1).mean() < 12


def test_silent_features_get_a_new_direction():
    h, _ = planted_data(2_000, 16, 20)
    sae = TrainableSae(16, 32, architecture="relu", k=1, learning_rate=1e-3, seed=0, device=torch.device("cpu"))
    sae.start_from(h)
    with torch.no_grad():
        sae.b_enc[:5] = -1e6
    for _ in range(3):
        sae.step(h[:500], l1=0.0, learning_rate=1e-3)
    assert not sae.fired[:5].any()
    before = sae.W_dec[:5].clone()
    sae.resample_silent(h[:500], seed=0)
    assert int(sae.resampled) >= 5
    assert not torch.equal(before, sae.W_dec[:5])
    assert (sae.b_enc[:5] == 0).all()
    sae.step(h[:500], l1=0.0, learning_rate=1e-3)
    assert sae.fired[:5].any()


def test_fills_hold_every_document_once_an_epoch_within_bounds():
    positions = np.random.default_rng(0).integers(1, 50, 200).tolist()
    fills = plan_fills(positions, epochs=3, buffer_positions=400, batch_size=32, seed=5)
    assert fills == plan_fills(positions, epochs=3, buffer_positions=400, batch_size=32, seed=5)
    for epoch in range(3):
        mine = [fill for fill in fills if fill.epoch == epoch]
        assert sorted(document for fill in mine for document in fill.documents) == list(range(200))
        assert all(sum(positions[d] for d in fill.documents) <= 400 for fill in mine)
    assert fills[0].documents != next(fill for fill in fills if fill.epoch == 1).documents
    total = sum(positions[document] for document in fills[0].documents)
    batches = batches_of(fills[0], total, seed=5)
    assert sorted(np.concatenate(batches).tolist()) == list(range(total))
    assert {len(batch) for batch in batches} <= set(range(20, 50))


def sae_config(case: SmallCase, path: Path, **changes: object) -> Config:
    settings = {
        "path": str(path),
        "d_sae": 64,
        "l1_coefficient": 0.1,
        "epochs": 3,
        "learning_rate": 1e-2,
        "batch_size": 32,
        "buffer_positions": 120,
        "checkpoint_steps": 4,
        **changes,
    }
    config = msgspec.structs.replace(case.config, saes=msgspec.structs.replace(case.config.saes, **settings))
    return msgspec.structs.replace(config, index=msgspec.structs.replace(config.index, device="cpu"))


@pytest.fixture(scope="module")
def trained(small_case: SmallCase, tmp_path_factory: pytest.TempPathFactory):
    path = tmp_path_factory.mktemp("saes") / "trained"
    return small_case, path, train_saes(sae_config(small_case, path))


def test_the_report_is_what_the_formula_gives(trained):
    """Explained variance, L0 and dead share once more: dense, float64, one document at a time."""
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
        assert layer.explained_variance > 0.3  # it did learn something
        norms = sae.W_dec.norm(dim=1)
        torch.testing.assert_close(norms, torch.full_like(norms, norms.mean().item()), rtol=1e-4, atol=1e-6)
    assert report.eval_positions == len(torch.cat(residuals[0]))


def test_the_same_again_is_a_no_op_and_other_settings_are_refused(trained):
    case, path, report = trained
    assert train_saes(sae_config(case, path)) == report
    with pytest.raises(SaeError, match="corpus or settings"):
        train_saes(sae_config(case, path, l1_coefficient=0.2))
    with pytest.raises(SaeError, match="layers 0 to 2, not 9"):
        train_saes(sae_config(case, path.with_name("other"), layers=[9]))


def test_killed_in_the_middle_gives_the_same_saes(trained, tmp_path: Path):
    case, path, _ = trained
    config_file = tmp_path / "tegakari.toml"
    config_file.write_text(render_config(sae_config(case, tmp_path / "saes")))
    assert load_config(config_file).saes.path == str(tmp_path / "saes")
    program = (
        "import sys, time; from tegakari.indexer.sae import train; slow = train._train_fill; "
        "train._train_fill = lambda *a: (time.sleep(0.1), slow(*a))[1]; "
        "from tegakari.cli import main; sys.argv = ['tegakari', 'sae', 'train', '-c', sys.argv[1]]; main()"
    )
    command = [sys.executable, "-c", program, str(config_file)]
    work = tmp_path / "saes.work"
    for _ in range(2):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        before = {entry.name for entry in work.glob("*/step-*")}
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and process.poll() is None:
            if {entry.name for entry in work.glob("*/step-*")} - before:
                break
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        assert list(work.glob("*/step-*"))
        assert not (tmp_path / "saes").exists()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "resuming" in done.stderr
    assert not work.exists()
    for layer in load_saes(path):
        name = Path(f"layer_{layer:02d}") / "sae_weights.safetensors"
        ours, theirs = load_file(path / name), load_file(tmp_path / "saes" / name)
        for key, value in ours.items():
            assert torch.equal(value, theirs[key]), (layer, key)
