"""docs/walkthrough-cluster.md as it is: four Ray nodes index a run into a bucket, and two services serve it."""

from __future__ import annotations

import json
import re
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tegakari.cli.app import app
from tegakari.indexer.pipeline import index
from tegakari.schemas.config.render import render_config
from tests.support.ray_nodes import Nodes, machines, needs_nodes
from tests.support.run_tables import tables_of
from tests.support.small_case import SmallCase, make_small_case, with_index
from tests.support.soak_length import only_in_a_soak
from tests.support.walkthrough import Block, environment_and_blocks

pytest.importorskip("obstore", reason="pip install -c constraints.txt -e '.[test]'")
pytest.importorskip("moto.server", reason="pip install -c constraints.txt -e '.[test]'")
pytestmark = [needs_nodes, only_in_a_soak]

SECONDS = 600.0
NODES = range(4)
STORAGE, SERVICES = 8, (10, 11)

PROGRAMS = {
    "tegakari": "from tegakari.cli import main; main()",
    "ray": "from ray.scripts.scripts import main; main()",
}


@pytest.fixture
def case(tiny_gemma2_dir: Path, tmp_path: Path) -> SmallCase:
    """Enough documents that every node is ready before the others have indexed them all."""
    (tmp_path / "case").mkdir()
    return make_small_case(tmp_path / "case", tiny_gemma2_dir, posts_per_label=300)


@pytest.fixture
def disk(case: SmallCase, tmp_path: Path) -> Path:
    """What the first node has in /srv/tegakari."""
    root = tmp_path / "tegakari"
    shutil.copytree(case.config_file.parent, root)
    config = with_index(case, Path("store"), run="tickets", shard_documents=2)
    text = render_config(config).replace(f"{case.config_file.parent}/", "")
    (root / "tegakari.toml").write_text(text)
    (root / "ray-token").write_text("0123456789abcdef" * 4)
    return root


@pytest.fixture
def network(disk: Path, tmp_path: Path) -> Iterator[Nodes]:
    """The machines of the page, with nothing started but the S3 server."""
    programs = tmp_path / "programs"
    programs.mkdir()
    for name, program in PROGRAMS.items():
        (programs / name).write_text(f"#!/bin/sh\nexec {sys.executable} -c '{program}' \"$@\"\n")
        (programs / name).chmod(0o755)
    (tmp_path / "replies").mkdir()
    with machines(tmp_path / "machines") as nodes:
        for name in [name for name in nodes.environment if name.startswith(("AWS_", "RAY_AUTH_"))]:
            del nodes.environment[name]
        nodes.environment["PATH"] = f"{programs}:{nodes.environment['PATH']}"
        nodes.add_machine(0, {"tegakari": disk, "replies": tmp_path / "replies"})
        for number in NODES[1:]:
            own = tmp_path / f"tegakari-{number}"
            for name in ("classifier", "saes"):
                shutil.copytree(disk / name, own / name)
            shutil.copy(disk / "ray-token", own)
            nodes.add_machine(number, {"tegakari": own})
        nodes.add_machine(STORAGE)
        nodes.start(STORAGE, [sys.executable, "-m", "tests.support.s3_machine", "10.77.0.9", "9000", "our-bucket"])
        for number in SERVICES:
            for name in ("empty", "cache"):
                (tmp_path / f"{name}-{number}").mkdir()
            nodes.add_machine(number, {"tegakari": tmp_path / f"empty-{number}", "cache": tmp_path / f"cache-{number}"})
        yield nodes


def run_block(nodes: Nodes, environment: str, block: Block) -> None:
    """Run the commands of a block on its machines; those of services go on."""
    script = f"set -euo pipefail\n{environment}\n{block.commands}"
    numbers = [int(address.rpartition(".")[2]) - 1 for address in block.machines]
    processes = [nodes.start(number, ["bash", "-c", script]) for number in numbers]
    if block.serves:
        time.sleep(1)
        assert all(process.poll() is None for process in processes)
        return
    for process in processes:
        assert process.wait(SECONDS) == 0, logs(nodes)


def logs(nodes: Nodes) -> str:
    files = sorted(nodes.directory.glob("node-*.log"), key=lambda file: file.stat().st_mtime)
    return "\n".join(f"== {file.name}\n{file.read_text()[-8000:]}" for file in files)


def test_the_page_is_executed_and_both_services_have_the_tables_of_one_process(
    case: SmallCase, network: Nodes, tmp_path: Path
):
    environment, blocks = environment_and_blocks()
    for block in blocks:
        run_block(network, environment, block)
    text = logs(network)
    assert set(re.findall(r"worker ready .*node=(\S+)", text)) == {f"10.77.0.{number + 1}" for number in NODES}, text

    index(with_index(case, tmp_path / "one-process", run="tickets", shard_documents=2))
    tables = tables_of(tmp_path / "one-process" / "runs" / "tickets")
    command = ["labels", "--run", "tickets", "--store", str(tmp_path / "one-process"), "--json"]
    labels = json.loads(CliRunner().invoke(app, command, catch_exceptions=False).stdout)
    for number in SERVICES:
        assert tables_of(tmp_path / f"cache-{number}" / "runs" / "tickets") == tables
        assert json.loads((tmp_path / "replies" / f"labels-10.77.0.{number + 1}.json").read_text()) == labels
