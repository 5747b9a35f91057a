"""Virtual environments and the programs that run in them."""

from __future__ import annotations

import os
import subprocess
import venv
from pathlib import Path


def run(*command: str | Path, cwd: Path | None = None) -> str:
    """Standard output of a command that must succeed. Nothing of this checkout is on its path."""
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    completed = subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, check=False, cwd=cwd or "/", env=environment
    )
    assert completed.returncode == 0, f"{command}\n{completed.stdout[-2000:]}\n{completed.stderr[-2000:]}"
    return completed.stdout


def make_environment(directory: Path) -> Path:
    """A new virtual environment; returns its interpreter."""
    venv.create(directory, with_pip=True)
    return directory / "bin" / "python"
