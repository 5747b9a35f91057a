"""Published SAEs read by tegakari and by other libraries: Llamascopium, and SAELens' own readers of published formats.

Needs those libraries: in this Python, or in the one that TEGAKARI_SAELENS_PYTHON names. They are no dependencies of
tegakari.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tegakari.models.sae_formats import load_sae
from tests.support.published_saes import PUBLISHED, goodfire
from tests.support.sae_activations import assert_encodes
from tests.support.sae_layouts import D_SAE, LAYOUTS, Layout, residuals

PYTHON = os.environ.get("TEGAKARI_SAELENS_PYTHON") or sys.executable
PROGRAM = Path(__file__).parents[2] / "support" / "published_saes_program.py"

GOODFIRE, QRESEARCH = "Llama-3.1-8B-Instruct-SAE-l19.pth", "DeepSeek-R1-Distill-Llama-8B-SAE-l19.pt"
SAELENS: dict[str, tuple[str, str, Layout]] = {
    "gemma scope": ("gemma_2", "layer_3/width_16k/average_l0_71", LAYOUTS["gemma scope"]),
    "gemma scope 2": ("gemma_3", "resid_post/layer_3_width_16k_l0_small", PUBLISHED["gemma scope 2"]),
    "qwen scope": ("qwen_scope", "layer3.sae.pt", PUBLISHED["qwen scope"]),
    "goodfire": ("goodfire", GOODFIRE, goodfire(GOODFIRE, "encoder_linear", "decoder_linear")),
    "qresearch": ("deepseek_r1", QRESEARCH, goodfire(QRESEARCH, "encoder", "decoder")),
}
"""Layout -> loader of SAELens, the path that it is given, and the layout."""


def run_program(module: str, library: str, directory: Path) -> None:
    """Run a library on the SAEs below a directory; skip without the library."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    found = f"import importlib.util, sys; sys.exit(importlib.util.find_spec({module!r}) is None)"
    if subprocess.run([PYTHON, "-c", found], check=False, env=environment).returncode:
        pytest.skip(f"{PYTHON} has no {module}")
    np.save(directory / "residuals.npy", residuals())
    process = subprocess.run(
        [PYTHON, "-W", "ignore", str(PROGRAM), library, str(directory)],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
    )
    assert process.returncode == 0, process.stderr[-3000:]


def assert_agrees(place: Path, directory: Path) -> None:
    outputs = np.load(directory / "outputs.npz")
    assert_encodes(load_sae(place), residuals(), (outputs["activations"], outputs["reconstructions"]), rtol=1e-4)


def test_llamascopium_reads_the_same_activations(tmp_path: Path):
    layouts = {name: layout for name, layout in PUBLISHED.items() if name.startswith("llamascopium")}
    for name, layout in layouts.items():
        layout.write(tmp_path / name)
    run_program("llamascopium", "llamascopium", tmp_path)
    for name in layouts:
        assert_agrees(tmp_path / name, tmp_path / name)


def test_saelens_reads_the_same_activations_of_what_others_publish(tmp_path: Path):
    places = {}
    for name, (loader, path, layout) in SAELENS.items():
        directory = tmp_path / name
        below = directory / path if layout.file == "." else directory
        layout.write(below)
        places[name] = below / layout.file
        if not (directory / path).exists():
            (directory / path).symlink_to(places[name])
        (directory / "loader.json").write_text(json.dumps({"loader": loader, "path": path, "d_sae": D_SAE}))
    run_program("sae_lens", "saelens", tmp_path)
    for name, place in places.items():
        assert_agrees(place, tmp_path / name)
