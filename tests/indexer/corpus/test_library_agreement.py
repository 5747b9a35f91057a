"""tegakari reads the rows of what `datasets` writes, in the library's order.

Needs the library: in this Python, or in the one that TEGAKARI_DATASETS_PYTHON names. It is no dependency of tegakari.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tegakari.indexer.corpus.rows import Columns, Row
from tegakari.indexer.corpus.sources import open_source

PYTHON = os.environ.get("TEGAKARI_DATASETS_PYTHON") or sys.executable
PROGRAM = Path(__file__).parents[2] / "support" / "datasets_program.py"
COLUMNS = Columns("id", "label", "title", "body", "")


def run_program(directory: Path, home: Path) -> None:
    """Run the program of the library; skip without the library."""
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(home), "OMP_NUM_THREADS": "1"}
    found = "import importlib.util, sys; sys.exit(importlib.util.find_spec('datasets') is None)"
    if subprocess.run([PYTHON, "-c", found], check=False, env=environment).returncode:
        pytest.skip(f"{PYTHON} has no datasets; name one that has it in TEGAKARI_DATASETS_PYTHON")
    process = subprocess.run(
        [PYTHON, str(PROGRAM), str(directory)], capture_output=True, text=True, check=False, env=environment
    )
    assert process.returncode == 0, process.stderr[-3000:]


def rows_of(source: Path) -> list[list[str]]:
    """Rows as the importer reads them, with the words of the library for the splits."""
    rows = []
    for row in open_source(source, source / "corpus").rows(COLUMNS):
        assert isinstance(row, Row)
        cells = [row.id, row.label[0] if isinstance(row.label, list) else row.label, row.title, row.body]
        texts = [cell.decode() if isinstance(cell, bytes) else str(cell) for cell in cells]
        split = {"eval": "test"}.get(row.split, row.split) if isinstance(row.split, str) else ""
        rows.append([*texts, split])
    return rows


def test_data_sets_that_the_library_writes(tmp_path: Path):
    directory = tmp_path / "data"
    directory.mkdir()
    run_program(directory, tmp_path)
    expected = json.loads((directory / "expected.json").read_text(encoding="utf-8"))
    assert len(expected) == 12
    assert list((directory / "mapped").glob("cache-*.arrow"))
    for name, rows in expected.items():
        read = rows_of(directory / name)
        # Files of a directory are read in order of their names.
        assert (read if name not in ("each split", "parquet") else sorted(read)) == (
            rows if name not in ("each split", "parquet") else sorted(rows)
        ), name
