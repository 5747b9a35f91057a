"""The compiled encode and plain torch make the same index of a small case."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tegakari.schemas.config.render import render_config
from tegakari.store.reader import Run
from tests.indexer.conftest import SmallCase, with_index

TABLES = ("labels", "documents", "layers", "features", "feature_labels", "top_tokens")
TOLERANCE = {"rtol": 2e-5, "atol": 2e-6}
"""float32 products in another order; Cohen's d divides by a standard deviation of such sums."""


def index_with(kernels: str, case: SmallCase, root: Path) -> Run:
    """Index in a process of its own: which path encodes is chosen once a process."""
    config = with_index(case, root / kernels)
    config_file = root / f"{kernels}.toml"
    config_file.write_text(render_config(config))
    command = [sys.executable, "-m", "tegakari.cli", "index", "--config", str(config_file)]
    environment = os.environ | {"TEGAKARI_KERNELS": kernels, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, env=environment, timeout=240, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return Run(root / kernels / "runs" / config.index.run)


@pytest.fixture(scope="module")
def both(small_case: SmallCase, tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, Run]:
    root = tmp_path_factory.mktemp("plain-torch")
    return index_with("numba", small_case, root), index_with("torch", small_case, root)


def assert_alike(name: str, ours: pa.Table, plain: pa.Table) -> None:
    assert ours.schema == plain.schema
    assert len(ours) == len(plain)
    for column in ours.column_names:
        mine, theirs = ours[column], plain[column]
        if pa.types.is_floating(mine.type):
            a, b = (array.to_numpy(zero_copy_only=False) for array in (mine, theirs))
            np.testing.assert_allclose(a, b, **TOLERANCE, err_msg=f"{name}.{column}")
        elif pa.types.is_list(mine.type) and pa.types.is_floating(mine.type.value_type):
            a, b = (array.combine_chunks().flatten().to_numpy(zero_copy_only=False) for array in (mine, theirs))
            np.testing.assert_allclose(a, b, **TOLERANCE, err_msg=f"{name}.{column}")
        else:
            assert mine.to_pylist() == theirs.to_pylist(), f"{name}.{column}"


def test_each_says_what_encoded(both: tuple[Run, Run]):
    assert [run.manifest.kernels for run in both] == ["numba", "torch"]


@pytest.mark.parametrize("table", TABLES)
def test_tables_are_alike(both: tuple[Run, Run], table: str):
    ours, plain = (run.query(f"SELECT * FROM {table}") for run in both)
    assert len(ours)
    assert_alike(table, ours, plain)


def test_activations_are_alike(both: tuple[Run, Run]):
    files = [sorted((run.directory / "activations").rglob("*.parquet")) for run in both]
    assert len(files[0]) == len(files[1]) == 3
    for mine, theirs in zip(*files, strict=True):
        ours, plain = pq.read_table(mine), pq.read_table(theirs)
        for column in ("feature", "document"):
            assert ours[column].equals(plain[column])
        # Rounded to 11 bits: the last of them may go either way.
        np.testing.assert_allclose(ours["activation"].to_numpy(), plain["activation"].to_numpy(), rtol=2**-10)
