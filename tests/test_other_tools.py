"""docs/other-tools.md: every example runs in its tool, on a store like the demo's."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import duckdb
import numpy as np
import pyarrow.parquet as pq
import pytest

from tegakari.store import Store
from tegakari.store.disk.layout import VECTORS
from tegakari.store.vectors import write_vectors
from tests.support.factories import D_MODEL, make_run

PAGE = Path(__file__).parent.parent / "docs" / "other-tools.md"


def blocks(language: str) -> list[str]:
    examples = re.findall(rf"^```{language}\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    assert examples
    return examples


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("work")
    for seed, name in enumerate(("demo-jpn", "demo-base")):
        make_run(directory / "store", name, seed=seed)
    run = Store(directory / "store").run("demo-jpn")
    draw = np.random.default_rng(0)
    directions = {layer: draw.standard_normal((40, D_MODEL)).astype(np.float32) for layer in run.manifest.saes.layers}
    embeddings = draw.standard_normal((run.manifest.corpus.documents, D_MODEL)).astype(np.float32)
    if not (run.directory / VECTORS).exists():
        write_vectors(run.directory, directions, [embeddings], ["x"] * len(embeddings))
    return directory


@pytest.mark.parametrize("block", blocks("python"), ids=lambda block: block.split()[1])
def test_python(workspace: Path, block: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(workspace)
    exec(compile(block, str(PAGE), "exec"), {})
    assert capsys.readouterr().out.strip()


def test_sql(workspace: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(workspace)
    connection = duckdb.connect()
    for block in blocks("sql"):
        results = [connection.execute(statement).fetchall() for statement in block.split(";") if statement.strip()]
        assert all(results[1:])


@pytest.mark.parametrize("block", blocks("sh"), ids=range(len(blocks("sh"))))
def test_commands(workspace: Path, block: str):
    command = f'tegakari() {{ "{sys.executable}" -c "from tegakari.cli import main; main()" "$@"; }}\nset -e\n{block}'
    process = subprocess.run(["bash", "-c", command], cwd=workspace, capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr
    assert process.stdout.strip()


def test_an_export_has_all_features(workspace: Path):
    test_commands(workspace, "tegakari runs export demo-jpn --to again --format parquet")
    run = Store(workspace / "store").run("demo-jpn")
    exported = pq.read_table(workspace / "again" / "features.parquet")
    assert exported.num_rows == run.query("FROM features").num_rows
