"""SAELens and tegakari read each other's files, with equal activations and reconstructions.

Needs SAELens: in this Python, or in the one that TEGAKARI_SAELENS_PYTHON names. It is not a dependency of tegakari.
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

from tegakari.models.sae import Sae
from tegakari.models.sae_formats import load_sae, save_sae
from tests.support.sae_activations import assert_encodes
from tests.support.sae_layouts import LAYOUTS, residuals

PYTHON = os.environ.get("TEGAKARI_SAELENS_PYTHON") or (
    sys.executable if importlib.util.find_spec("sae_lens") else None
)  # fmt: skip

pytestmark = pytest.mark.skipif(PYTHON is None, reason="needs SAELens; TEGAKARI_SAELENS_PYTHON is not set")

PROGRAM = Path(__file__).parents[2] / "support" / "saelens_program.py"


def run_saelens(command: str, directory: Path) -> str:
    np.save(directory / "residuals.npy", residuals())
    process = subprocess.run(
        [str(PYTHON), str(PROGRAM), command, str(directory)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
    )
    assert process.returncode == 0, process.stderr[-3000:]
    return process.stdout


def assert_agrees(sae: Sae, directory: Path) -> None:
    outputs = np.load(directory / "outputs.npz")
    assert_encodes(sae, residuals(), (outputs["activations"], outputs["reconstructions"]), rtol=1e-4)


def test_saelens_reads_what_tegakari_writes(tmp_path: Path):
    saes = {}
    for number, name in enumerate(LAYOUTS):
        LAYOUTS[name].write(tmp_path / "layouts" / str(number))
        saes[str(number)] = replace(load_sae(tmp_path / "layouts" / str(number)), layer=number, scale=0.7)
        save_sae(tmp_path / "written" / str(number), saes[str(number)], model_name="classifier")
    output = run_saelens("read", tmp_path / "written")
    for name, sae in saes.items():
        # SAELens centres nothing: it asks for the residuals of a model whose weights were centred.
        assert_agrees(replace(sae, centred=False), tmp_path / "written" / name)
        assert f"blocks.{sae.layer}.hook_resid_post" in output


def test_tegakari_reads_what_saelens_writes(tmp_path: Path):
    run_saelens("write", tmp_path)
    directories = sorted(config.parent for config in tmp_path.glob("*/cfg.json"))
    assert len(directories) == 24
    for directory in directories:
        sae = load_sae(directory)
        assert sae.layer == 3
        assert_agrees(sae, directory)
