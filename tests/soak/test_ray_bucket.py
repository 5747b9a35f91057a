"""Ray nodes without a shared disk, before an S3 server that fails: nodes, driver and network die on the way."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tegakari.indexer.pipeline import index
from tegakari.schemas.config.render import render_config
from tests.support.object_storage import environment
from tests.support.ray_nodes import Nodes, machines, needs_nodes
from tests.support.run_tables import tables_of
from tests.support.small_case import SmallCase, with_index
from tests.support.soak_length import only_in_a_soak

pytest.importorskip("obstore", reason="pip install -c constraints.txt -e '.[test]'")
pytest.importorskip("moto.server", reason="pip install -c constraints.txt -e '.[test]'")
pytestmark = [needs_nodes, only_in_a_soak]

SECONDS = 600.0
STORAGE = 8
BUCKET = "s3://shards/stores/one"


@pytest.fixture
def network(small_case: SmallCase, tmp_path: Path) -> Iterator[Nodes]:
    """A head and three nodes with a CPU each, which have copies of the models, and a faulty S3 server."""
    case = small_case.config_file.parent
    config = render_config(with_index(small_case, Path("store"), shard_documents=1)).replace(f"{case}/", "")
    with machines(tmp_path / "machines") as nodes:
        nodes.environment |= environment("http://10.77.0.9:9000")
        nodes.add_machine(STORAGE)
        server = [sys.executable, "-m", "tests.support.s3_machine", "10.77.0.9", "9000", "shards", "--faulty"]
        nodes.start(STORAGE, server)
        for number in range(4):
            own = tmp_path / f"case-{number}"
            for name in ("classifier", "saes", *(() if number else ("corpus",))):
                shutil.copytree(case / name, own / name)
            (own / "tegakari.toml").write_text(config)
            nodes.add_machine(number, {"case": own})
            nodes.start_ray(number, 1 if number else 0)
            if number == 0:
                nodes.wait_for(1)
        nodes.wait_for(4)
        yield nodes


def start(nodes: Nodes, lines: Path, *options: str) -> subprocess.Popen[bytes]:
    program = [sys.executable, "-m", "tests.support.ray_driver", "/srv/case/tegakari.toml", nodes.address, "3"]
    return nodes.start(0, [*program, str(lines), "--bucket", BUCKET, "--wait-seconds", "400", *options])


def wait_until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def output(nodes: Nodes) -> str:
    files = sorted(nodes.directory.glob("node-0-*.log"), key=lambda file: file.stat().st_mtime)
    return files[-1].read_text()


def test_faults_of_nodes_driver_network_and_server_change_no_table(
    small_case: SmallCase, network: Nodes, tmp_path: Path
):
    index(with_index(small_case, tmp_path / "one-process", shard_documents=1))
    tables = tables_of(tmp_path / "one-process" / "runs" / "small")
    lines = tmp_path / "lines"

    def finished() -> int:
        return len(lines.read_text().splitlines()) if lines.exists() else 0

    poison = next(document for document, _, split, _ in small_case.documents if split == "eval")
    poisoned = start(network, tmp_path / "poisoned", "--poison", poison)
    assert poisoned.wait(SECONDS) == 1
    assert re.search(rf"shard [0-9a-f]+ ended 3 workers; .*'{re.escape(poison)}'", output(network))
    shutil.rmtree(tmp_path / "case-0" / "store")  # what it has finished is in the bucket

    driver = start(network, lines, "--slow", "0.5")
    wait_until(lambda: finished() >= 4)
    network.kill(3)
    before = finished()
    wait_until(lambda: finished() >= before + 3)
    network.plug(STORAGE, connected=False)
    time.sleep(20)
    network.plug(STORAGE, connected=True)
    before = finished()
    wait_until(lambda: finished() >= before + 3)
    os.kill(driver.pid, signal.SIGKILL)
    driver.wait()
    assert finished() < 48
    driver = start(network, lines)
    assert driver.wait(SECONDS) == 0, output(network)
    assert tables_of(tmp_path / "case-0" / "store" / "runs" / "small") == tables

    tegakari = [sys.executable, "-m", "tegakari.cli", "runs"]
    pull = network.start(0, [*tegakari, "pull", "small", "--from", BUCKET, "--store", str(tmp_path / "pulled")])
    assert pull.wait(SECONDS) == 0, output(network)
    assert tables_of(tmp_path / "pulled" / "runs" / "small") == tables
    program = (
        "from tegakari.store.objects.bucket import Bucket\n"
        f"print('left:', *[stored.path for stored in Bucket({BUCKET!r}).objects('work')])"
    )
    assert network.start(0, [sys.executable, "-c", program]).wait(SECONDS) == 0
    assert output(network).strip().splitlines()[-1] == "left:"
