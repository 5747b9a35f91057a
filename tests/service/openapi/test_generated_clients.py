"""Clients that generators make of the OpenAPI document are whole, have the right types, and call a real server.

The generators are no dependencies of tegakari. TEGAKARI_OPENAPI_PYTHON names a Python with openapi-python-client and
ruff, TEGAKARI_OPENAPI_NODE a directory in which npm installed openapi-typescript, openapi-fetch, typescript 5 and
@types/node.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest

from tegakari.indexer.pipeline import index
from tegakari.service.openapi.examples import BODIES
from tests.support.factories import make_run
from tests.support.serving import serving
from tests.support.small_case import SmallCase, with_index

PYTHON = os.environ.get("TEGAKARI_OPENAPI_PYTHON")
NODE = os.environ.get("TEGAKARI_OPENAPI_NODE")
PROGRAMS = Path(__file__).parents[2] / "support" / "generated"
LABEL = "車/軽"


class Served(NamedTuple):
    """A running service, and its document as a file."""

    address: str
    document: Path


@pytest.fixture(scope="module")
def served(small_case: SmallCase, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    directory = tmp_path_factory.mktemp("generated")
    index(with_index(small_case, directory / "store"))
    make_run(directory / "store", "dots", labels=("..", "a/b"), layers=1, d_sae=20, documents_per_label=2)
    with serving("--store", directory / "store") as (address, _):
        document = directory / "openapi.json"
        document.write_bytes(httpx.get(f"{address}/schema/openapi.json", timeout=60).content)
        yield Served(address, document)


def checked(*command: str | Path, cwd: Path, path: str = "") -> str:
    environment = {**os.environ, "PATH": f"{path}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(
        [str(part) for part in command], cwd=cwd, capture_output=True, text=True, check=False, env=environment
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.skipif(PYTHON is None, reason="needs openapi-python-client; TEGAKARI_OPENAPI_PYTHON is not set")
def test_openapi_python_client_makes_a_client_of_every_operation(served: Served, tmp_path: Path):
    scripts = Path(str(PYTHON)).absolute().parent
    generate = (scripts / "openapi-python-client", "generate", "--path", served.document, "--fail-on-warning")
    checked(*generate, cwd=tmp_path, path=str(scripts))
    values = {
        "run": "small",
        "runs": "small,small",
        "label": LABEL,
        "layer": 0,
        "feature": _active_feature(served.address),
        "document": httpx.get(f"{served.address}/v1/runs/small/documents").json()["items"][0]["document"],
        "knockout": "none",
        "analysis": "none",
        "q": "軽トラ",
        "slug": "busy",
        **BODIES,
        "knockOut": {"label": LABEL, "layer": 0, "k": 1, "draws": 0},
    }
    program = (PYTHON or "", PROGRAMS / "call_all.py", tmp_path / "tegakari-client", served.address, served.document)
    report: dict[str, Any] = json.loads(checked(*program, json.dumps(values), cwd=tmp_path))
    document = json.loads(served.document.read_bytes())
    operations = {op["operationId"] for methods in document["paths"].values() for op in methods.values()}
    assert report.keys() == operations
    for operation, (status, parsed, same) in report.items():
        assert status < 300 or parsed == "Problem", (operation, status, parsed)
        assert same in (True, None), operation
    failed = {operation for operation, (status, _, _) in report.items() if status >= 300}
    assert failed <= STORED, report
    assert report["listLabels"][1] == "LabelRowPage"
    assert report["knockOut"][:2] == [200, "KnockoutJob"]


STORED = {"getCircuit", "getVariants", "compareRuns", "getAnalysis", "deleteAnalysis"}
"""Operations that read what an analysis stored, which the store of this test does not have."""


def _active_feature(address: str) -> int:
    rows = httpx.get(f"{address}/v1/runs/small/labels/%E8%BB%8A%2F%E8%BB%BD/features?layer=0&limit=1").json()["items"]
    return rows[0]["feature"]


@pytest.mark.skipif(
    NODE is None or shutil.which("node") is None, reason="needs openapi-typescript; TEGAKARI_OPENAPI_NODE is not set"
)
def test_openapi_typescript_makes_types_that_compile_and_fit_the_server(served: Served, tmp_path: Path):
    tools = Path(str(NODE)).absolute() / "node_modules"
    (tmp_path / "node_modules").symlink_to(tools)
    (tmp_path / "package.json").write_text('{"type": "module"}')
    shutil.copy(PROGRAMS / "calls.ts", tmp_path)
    checked(tools / ".bin" / "openapi-typescript", served.document, "-o", tmp_path / "schema.d.ts", cwd=tmp_path)
    options = (
        "--strict",
        "--target",
        "es2022",
        "--module",
        "nodenext",
        "--types",
        "node",
        "--noUncheckedIndexedAccess",
    )
    checked(tools / ".bin" / "tsc", *options, "calls.ts", cwd=tmp_path)
    result = json.loads(checked("node", "calls.js", served.address, LABEL, cwd=tmp_path))
    assert result["names"] == ["dots", "small"]
    assert (result["labels"], result["dots"], result["encoded"], result["knockout"]) == (3, "..", 1, 200)
    assert result["ended"]
    assert result["d"] == pytest.approx(result["best"])
    assert "nothing" in result["problem"]
    assert result["csv"].startswith('"label"')
