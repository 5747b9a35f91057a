"""tegakari reads what dictionary_learning and sparsify write, with equal activations and reconstructions.

Needs those libraries: in this Python, or in the one that TEGAKARI_SAELENS_PYTHON names. They are no dependencies of
tegakari.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tegakari.models.sae_formats import load_sae, load_saes
from tests.support.sae_activations import assert_encodes
from tests.support.sae_layouts import residuals

PYTHON = os.environ.get("TEGAKARI_SAELENS_PYTHON") or sys.executable
SUPPORT = Path(__file__).parents[2] / "support"


def run_program(library: str, directory: Path) -> None:
    """Run the program of a library, which writes SAEs below a directory; skip without the library."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    found = f"import importlib.util, sys; sys.exit(importlib.util.find_spec({library!r}) is None)"
    if subprocess.run([PYTHON, "-c", found], check=False, env=environment).returncode:
        pytest.skip(f"{PYTHON} has no {library}")
    np.save(directory / "residuals.npy", residuals())
    program = SUPPORT / f"{library}_program.py"
    process = subprocess.run(
        [PYTHON, str(program), str(directory)], capture_output=True, text=True, check=False, env=environment
    )
    assert process.returncode == 0, process.stderr[-3000:]


def test_dictionary_learning(tmp_path: Path):
    run_program("dictionary_learning", tmp_path)
    directories = sorted(file.parent for file in tmp_path.glob("*/ae.pt"))
    assert len(directories) == 7
    for directory in directories:
        sae = load_sae(directory)
        outputs = np.load(directory / "outputs.npz")
        assert_encodes(sae, residuals(), (outputs["activations"], outputs["reconstructions"]), rtol=1e-4)
        assert (sae.layer, sae.training.model_name, sae.training.context_size) == (3, "model", 128)


def test_sparsify(tmp_path: Path):
    run_program("sparsify", tmp_path)
    (sae,) = load_saes(tmp_path).values()
    outputs = np.load(tmp_path / "layers.3" / "outputs.npz")
    assert_encodes(sae, residuals(), (outputs["activations"], outputs["reconstructions"]), rtol=1e-4)
    assert (sae.layer, sae.doubts) == (3, ())
