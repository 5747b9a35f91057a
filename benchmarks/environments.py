"""Environments of the libraries of the comparisons: one per library, created once from exact versions."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

WORK = Path(__file__).parent / "work"
"""Environments, models and stores of the benchmarks; not kept under version control."""


class Environment(NamedTuple):
    """Packages of an environment."""

    name: str
    packages: tuple[str, ...]
    alone: tuple[str, ...] = ()
    """packages installed without their dependencies"""
    unwanted: tuple[str, ...] = ()
    """packages removed after the installation"""

    @property
    def python(self) -> Path:
        return WORK / self.name / "bin" / "python"

    @property
    def _recipe(self) -> str:
        return hashlib.sha256(repr(self).encode()).hexdigest()

    @property
    def _ready(self) -> Path:
        return WORK / self.name / "ready"

    def is_ready(self) -> bool:
        """Whether the environment exists and was created from these packages."""
        return self._ready.is_file() and self._ready.read_text() == self._recipe

    def make(self) -> Path:
        """Interpreter of the environment, which is created if it is not ready."""
        if not self.is_ready():
            directory = str(WORK / self.name)
            subprocess.run([sys.executable, "-m", "venv", "--clear", directory], check=True)
            pip = [str(self.python), "-m", "pip", "--disable-pip-version-check", "-q"]
            subprocess.run([*pip, "install", *self.packages], check=True)
            if self.alone:
                subprocess.run([*pip, "install", "--no-deps", *self.alone], check=True)
            if self.unwanted:
                subprocess.run([*pip, "uninstall", "-y", *self.unwanted], check=True)
            self._ready.write_text(self._recipe)
        return self.python


ENCODERS = Environment("sae-lens", ("torch==2.13.0", "sae-lens==6.54.12", "eai-sparsify==1.3.3"))
DELPHI = Environment(
    "delphi",
    # All imports of delphi except vllm and bitsandbytes, which only its explanations need.
    (
        "torch==2.13.0",
        "transformers==5.23.0",
        "numpy==2.4.6",
        "aiofiles",
        "anyio",
        "asyncer",
        "blobfile",
        "datasets",
        "einops",
        "faiss-cpu",
        "fire",
        "httpx",
        "jaxtyping",
        "nltk",
        "openai",
        "orjson",
        "pandas",
        "plotly",
        "safetensors",
        "scikit-learn",
        "seaborn",
        "sentence-transformers",
        "simple-parsing",
    ),
    alone=("eai-delphi==0.1.3", "eai-sparsify==1.3.3"),
)
SAE_DASHBOARD = Environment(
    "sae-dashboard",
    (
        "torch==2.13.0",
        "sae-dashboard==0.8.0",
        "sae-lens==6.54.12",
        "transformer-lens==2.17.0",
        "transformers==4.56.2",
        "pyarrow<20",  # it needs numpy 1, with which later versions do not load
    ),
    unwanted=("torchvision", "torchaudio"),  # built for another version of torch
)
