"""What tegakari writes, SAELens reads, and the other way round: the same activations and reconstructions.

Needs SAELens: in this Python, or in the one that TEGAKARI_SAELENS_PYTHON names. It is no dependency of ours.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tegakari.kernels import encode
from tegakari.models.sae import Sae
from tegakari.models.sae_formats import load_sae, save_sae
from tests.support.sae_layouts import LAYOUTS, residuals

PYTHON = os.environ.get("TEGAKARI_SAELENS_PYTHON") or (
    sys.executable if importlib.util.find_spec("sae_lens") else None
)  # fmt: skip

pytestmark = pytest.mark.skipif(PYTHON is None, reason="SAELens is not here and TEGAKARI_SAELENS_PYTHON is not set")

PROGRAM = Path(__file__).parents[1] / "support" / "saelens_program.py"


def run_saelens(command: str, directory: Path) -> str:
    np.save(directory / "residuals.npy", residuals())
    done = subprocess.run(
        [str(PYTHON), str(PROGRAM), command, str(directory)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def assert_agrees(sae: Sae, directory: Path) -> None:
    theirs = np.load(directory / "outputs.npz")
    h = torch.from_numpy(residuals()).float()
    rows = encode(h, sae.encoder(torch.float32), torch.tensor([0, len(h)]), rows="all").rows
    assert rows is not None
    a = torch.zeros(len(h), sae.d_sae)
    a[torch.repeat_interleave(torch.arange(len(h)), rows.indptr.diff()), rows.feature.long()] = rows.activation
    np.testing.assert_allclose(a.numpy(), theirs["activations"], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(sae.decode(a).numpy(), theirs["reconstructions"], rtol=1e-4, atol=1e-3)
    assert 0 < np.count_nonzero(theirs["activations"]) < theirs["activations"].size


def test_saelens_reads_what_we_write(tmp_path: Path):
    saes = {}
    for number, name in enumerate(LAYOUTS):
        LAYOUTS[name].write(tmp_path / "theirs" / str(number))
        saes[str(number)] = replace(load_sae(tmp_path / "theirs" / str(number)), layer=number, scale=0.7)
        save_sae(tmp_path / "ours" / str(number), saes[str(number)], model_name="classifier")
    said = run_saelens("read", tmp_path / "ours")
    for name, sae in saes.items():
        assert_agrees(sae, tmp_path / "ours" / name)
        assert f"blocks.{sae.layer}.hook_resid_post" in said


def test_we_read_what_saelens_writes(tmp_path: Path):
    run_saelens("write", tmp_path)
    written = sorted(config.parent for config in tmp_path.glob("*/cfg.json"))
    assert len(written) == 8
    for directory in written:
        sae = load_sae(directory)
        assert sae.layer == 3
        assert_agrees(sae, directory)
