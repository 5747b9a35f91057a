"""The compiled encode and plain torch give the same index of a small case."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tegakari.indexer.pipeline import index
from tegakari.schemas.config.render import render_config
from tegakari.store.reader import Run
from tests.support.small_case import SmallCase, with_index

TABLES = ("labels", "documents", "layers", "features", "feature_labels", "top_tokens")
TOLERANCE = {"rtol": 2e-5, "atol": 2e-6}
"""float32 products in another order; Cohen's d divides by a standard deviation of such sums."""


def index_with(kernels: str, case: SmallCase, root: Path) -> Run:
    """Index in a new process: this one has chosen its path of encode."""
    config = with_index(case, root / kernels)
    config_file = root / f"{kernels}.toml"
    config_file.write_text(render_config(config))
    command = [sys.executable, "-m", "tegakari.cli", "index", "--config", str(config_file)]
    environment = os.environ | {"TEGAKARI_KERNELS": kernels, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, env=environment, timeout=240, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return Run(root / kernels / "runs" / config.index.run)


@pytest.fixture(scope="module")
def runs(small_case: SmallCase, tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, Run]:
    root = tmp_path_factory.mktemp("plain-torch")
    compiled = with_index(small_case, root / "numba")
    index(compiled)
    return Run(root / "numba" / "runs" / compiled.index.run), index_with("torch", small_case, root)


def assert_close(name: str, compiled: pa.Table, plain: pa.Table) -> None:
    assert compiled.schema == plain.schema
    assert len(compiled) == len(plain)
    for column in compiled.column_names:
        left, right = compiled[column], plain[column]
        if pa.types.is_floating(left.type):
            a, b = (array.to_numpy(zero_copy_only=False) for array in (left, right))
            np.testing.assert_allclose(a, b, **TOLERANCE, err_msg=f"{name}.{column}")
        elif pa.types.is_list(left.type) and pa.types.is_floating(left.type.value_type):
            a, b = (array.combine_chunks().flatten().to_numpy(zero_copy_only=False) for array in (left, right))
            np.testing.assert_allclose(a, b, **TOLERANCE, err_msg=f"{name}.{column}")
        else:
            assert left.to_pylist() == right.to_pylist(), f"{name}.{column}"


def test_the_manifest_names_the_path_of_encode(runs: tuple[Run, Run]):
    assert [run.manifest.kernels for run in runs] == ["numba", "torch"]


@pytest.mark.parametrize("table", TABLES)
def test_tables_are_close(runs: tuple[Run, Run], table: str):
    compiled, plain = (run.query(f"SELECT * FROM {table}") for run in runs)
    assert len(compiled)
    assert_close(table, compiled, plain)


def test_activations_are_close(runs: tuple[Run, Run]):
    files = [sorted((run.directory / "activations").rglob("*.parquet")) for run in runs]
    assert len(files[0]) == len(files[1]) == 3
    for left, right in zip(*files, strict=True):
        compiled, plain = pq.read_table(left), pq.read_table(right)
        for column in ("feature", "document"):
            assert compiled[column].equals(plain[column])
        # Rounded to 11 bits: the last bit can differ.
        np.testing.assert_allclose(compiled["activation"].to_numpy(), plain["activation"].to_numpy(), rtol=2**-10)
