"""An index on real Ray clusters whose nodes, driver, network and shards fail: the tables are those of one process."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from tegakari.indexer.pipeline import index
from tegakari.store import Store
from tests.support.ray_nodes import Nodes, needs_nodes, ray_nodes
from tests.support.run_tables import tables_of
from tests.support.small_case import SmallCase, with_index
from tests.support.soak_length import only_in_a_soak

pytestmark = [needs_nodes, only_in_a_soak]

SECONDS = 300.0
"""Longest duration of an index."""


@pytest.fixture(scope="module")
def tables(small_case: SmallCase, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Tables of an index in one process, with one document per shard."""
    store = tmp_path_factory.mktemp("one-process")
    index(with_index(small_case, store, shard_documents=1))
    return tables_of(store / "runs" / "small")


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nodes]:
    with ray_nodes(tmp_path_factory.mktemp("nodes"), 1, cpus=2) as cluster:
        yield cluster


def write_config(case: SmallCase, directory: Path) -> Path:
    """A configuration that indexes the small case into a store in `directory`, one document per shard."""
    text = case.config_file.read_text()
    text = re.sub(r'(?m)^store = "store"', f'store = "{directory / "store"}"', text)
    text = re.sub(r"(?m)^shard_documents = \d+", "shard_documents = 1", text)
    for key in ("corpus", "classifier", "saes"):
        text = text.replace(f'path = "{key}"', f'path = "{case.config_file.parent / key}"')
    (directory / "tegakari.toml").write_text(text)
    return directory / "tegakari.toml"


def start(nodes: Nodes, config: Path, workers: int, *options: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "tests.support.ray_driver", str(config), nodes.address, str(workers)]
    return nodes.start(0, [*command, str(config.parent / "lines"), *options])


def times(config: Path) -> list[float]:
    """When documents were done."""
    lines = config.parent / "lines"
    return [float(line) for line in lines.read_text().splitlines()] if lines.exists() else []


def wait_until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def output(nodes: Nodes) -> str:
    """Output of the process that was started last on the head."""
    files = sorted(nodes.directory.glob("node-0-*.log"), key=lambda file: file.stat().st_mtime)
    return files[-1].read_text()


def assert_published(process: subprocess.Popen[bytes], nodes: Nodes, config: Path, tables: dict[str, str]) -> None:
    assert process.wait(SECONDS) == 0, output(nodes)
    assert tables_of(config.parent / "store" / "runs" / "small") == tables
    assert list((config.parent / "store" / "work").iterdir()) == []


def test_the_command_indexes_on_a_cluster(small_case: SmallCase, tmp_path: Path, nodes: Nodes, tables):
    config = write_config(small_case, tmp_path)
    command = [sys.executable, "-m", "tegakari.cli", "index", "--config", str(config), "--ray", nodes.address]
    process = nodes.start(0, [*command, "--workers", "2", "--json"])
    assert_published(process, nodes, config, tables)
    assert "worker ready" in output(nodes)


def test_a_shard_that_ends_its_workers_is_named(small_case: SmallCase, tmp_path: Path, nodes: Nodes, tables):
    config = write_config(small_case, tmp_path)
    poison = next(document for document, _, split, _ in small_case.documents if split == "eval")
    process = start(nodes, config, 2, "--poison", poison)
    assert process.wait(SECONDS) == 1
    assert re.search(rf"ERROR corpus: shard [0-9a-f]+ ended 3 workers; .*'{re.escape(poison)}'", output(nodes))
    assert Store(tmp_path / "store").names() == []
    assert_published(start(nodes, config, 2), nodes, config, tables)


def test_a_layer_that_ends_its_workers_is_named(small_case: SmallCase, tmp_path: Path, nodes: Nodes, tables):
    """The layers that were merged are kept, and the command that merges alone goes on with the others."""
    config = write_config(small_case, tmp_path)
    process = start(nodes, config, 2, "--poison-layer", "1")
    assert process.wait(SECONDS) == 1
    assert "ERROR --ray: the merge of layer 1 ended 3 workers" in output(nodes)
    merged = [
        file.parent.name for file in (tmp_path / "store" / "work" / "small").glob("layers-*/*-features/layer.json")
    ]
    assert merged
    assert "01-features" not in merged
    command = [sys.executable, "-m", "tegakari.cli", "index", "--config", str(config), "--ray", nodes.address]
    assert_published(nodes.start(0, [*command, "--only", "merge"]), nodes, config, tables)


def test_a_killed_driver_is_resumed_by_the_same_command(small_case: SmallCase, tmp_path: Path, nodes: Nodes, tables):
    config = write_config(small_case, tmp_path)
    process = start(nodes, config, 2, "--slow", "0.2")
    wait_until(lambda: len(times(config)) >= 5)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    done = len(list((tmp_path / "store" / "work" / "small" / "shards").glob("[0-9a-f]*/shard.json")))
    assert done >= 5
    assert_published(start(nodes, config, 2), nodes, config, tables)


def test_no_worker_in_time_is_an_error(small_case: SmallCase, tmp_path: Path, nodes: Nodes):
    config = write_config(small_case, tmp_path)
    command = [sys.executable, "-m", "tegakari.cli", "index", "--config", str(config), "--ray", nodes.address]
    process = nodes.start(0, [*command, "--gpus-per-worker", "1", "--wait-seconds", "5"])
    assert process.wait(SECONDS) != 0
    text = " ".join(output(nodes).split())
    assert "no worker was ready for 5 s; a worker needs 1 CPU and 1 GPUs" in text
    assert "0 of 0 GPUs are free" in text


def test_a_killed_node_and_a_cut_network_change_no_table(
    small_case: SmallCase, tmp_path: Path, tables, record_property
):
    with ray_nodes(tmp_path / "nodes", 4) as nodes:
        (tmp_path / "killed").mkdir()
        config = write_config(small_case, tmp_path / "killed")
        process = start(nodes, config, 3, "--slow", "0.3")
        wait_until(lambda: len(times(config)) >= 12)
        killed = time.monotonic()
        nodes.kill(3)
        assert_published(process, nodes, config, tables)
        after = [killed, *(moment for moment in times(config) if moment > killed)]
        gap = max(later - earlier for earlier, later in pairwise(after))
        record_property("node_kill_gap_s", gap)
        sys.stdout.write(f"node_kill_gap_s {gap:.2f}\n")
        assert gap < 60

        (tmp_path / "cut").mkdir()
        config = write_config(small_case, tmp_path / "cut")
        process = start(nodes, config, 2, "--slow", "0.5")
        wait_until(lambda: len(times(config)) >= 6)
        nodes.plug(2, connected=False)
        time.sleep(20)
        nodes.plug(2, connected=True)
        assert_published(process, nodes, config, tables)
