"""`--check` of every tool: generated and vendored files are current, and a file that is not fails the check."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tools.generated import ROOT

FILES = {
    "tools.generate_client": "tegakari/client/_sync.py",
    "tools.generate_docs": "docs/cli.md",
    "tools.vendor": "tegakari/service/static/rapidoc-min.js",
}
"""Tool -> one of the files that it writes."""


def run(tool: str, *arguments: str, root: Path = ROOT) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", tool, *arguments]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    return subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    for part in ("tools", "docs", "tegakari", "tests/browser/axe"):
        shutil.copytree(ROOT / part, tmp_path / part, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)  # settings of the formatter
    return tmp_path


@pytest.mark.parametrize("tool", FILES)
def test_the_tree_is_current(tool: str):
    done = run(tool, "--check")
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("tool", FILES)
def test_a_changed_file_is_named(tool: str, copy: Path):
    path = copy / FILES[tool]
    path.write_text(path.read_text(encoding="utf-8") + "\n", encoding="utf-8")
    done = run(tool, "--check", root=copy)
    assert done.returncode == 1
    assert FILES[tool] in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("tool", FILES)
def test_a_missing_file_is_named(tool: str, copy: Path):
    (copy / FILES[tool]).unlink()
    done = run(tool, "--check", root=copy)
    assert done.returncode == 1
    assert FILES[tool] in done.stderr


@pytest.mark.parametrize("tool", ["tools.generate_client", "tools.generate_docs"])
def test_a_generator_writes_what_its_check_asks_for(tool: str, copy: Path):
    (copy / FILES[tool]).write_text("old", encoding="utf-8")
    assert run(tool, root=copy).returncode == 0
    assert (copy / FILES[tool]).read_bytes() == (ROOT / FILES[tool]).read_bytes()
    assert run(tool, "--check", root=copy).returncode == 0
