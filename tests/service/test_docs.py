"""docs/api.md is true: its commands run against a real server, its answers have the real fields, it has every route."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import httpx
import msgspec
import pyarrow.parquet as pq
import pytest
from litestar.testing import TestClient

from tegakari.analyses.knockout import knockout_key, resolve
from tegakari.schemas.knockout import KnockoutSettings
from tegakari.store import Store
from tests.support.factories import LABELS
from tests.support.service import RUN

PAGE = (Path(__file__).parents[2] / "docs" / "api.md").read_text(encoding="utf-8")
ADDRESS = "http://127.0.0.1:8765"


class Example(NamedTuple):
    """A command of the page, and the answer that it shows, if it shows one."""

    route: str
    command: str
    answer: str | None


def examples() -> list[Example]:
    found = []
    for section in PAGE.split("\n## ")[1:]:
        route, _, text = section.partition("\n")
        command = re.search(r"```sh\n(.*?)```", text, re.DOTALL)
        answer = re.search(r"```json\n(.*?)```", text, re.DOTALL)
        assert command, f"{route} has no example"
        found.append(Example(route, command[1].strip(), answer[1] if answer else None))
    return found


def shape(value: Any) -> Any:
    """Names of fields, all the way down; of a list, those of its first item."""
    match value:
        case dict():
            return {name: shape(item) for name, item in value.items()}
        case [first, *_]:
            return [shape(first)]
        case _:
            return None


def test_every_route_has_its_section(client: TestClient):
    document = json.loads(client.get("/schema/openapi.json").content)
    operations = {
        f"{method.upper()} {path}": operation
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    }
    assert {example.route for example in examples()} == operations.keys()
    for route, operation in operations.items():
        section = PAGE.split(f"\n## {route}\n")[1].split("\n## ")[0]
        for parameter in operation.get("parameters", []):
            named = parameter["in"] == "path" or f"`{parameter['name']}`" in section
            assert named or parameter["name"] in ("format", "fields"), (route, parameter["name"])


def _knockout(server: httpx.Client, store: Path) -> str:
    """Id of a knockout: one that failed, since the drawn run has no model."""
    run = Store(store).run(RUN)
    asked = resolve(run, KnockoutSettings(label=LABELS[0], layer=0, k=2))
    server.post(f"/v1/runs/{RUN}/knockouts", content=msgspec.json.encode(asked))
    return knockout_key(run, asked)


@pytest.mark.skipif(shutil.which("curl") is None, reason="no curl on this machine")
@pytest.mark.parametrize("example", examples(), ids=lambda example: example.route)
def test_examples_run_and_answer_as_shown(server: httpx.Client, store: Path, example: Example):
    assert ADDRESS in example.command
    command = example.command.replace(ADDRESS, str(server.base_url).rstrip("/"))
    first = server.get(f"/v1/runs/{RUN}/documents", params={"label": LABELS[0]}).json()["items"][0]["document"]
    done = subprocess.run(
        f"{command} -sS --fail-with-body",
        shell=True,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "DOCUMENT": quote(first, safe=""), "KNOCKOUT": _knockout(server, store)},
    )
    if done.returncode and "model-not-here" in done.stdout:  # the drawn run has no model; what was asked is good
        return
    if done.returncode and "`tegakari " in done.stdout and "not-found" in done.stdout:  # nor was it analysed
        return
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout
    if example.answer is not None:
        answer = json.loads(done.stdout)
        assert shape(answer) == shape(json.loads(example.answer))


@pytest.mark.skipif(shutil.which("curl") is None, reason="no curl on this machine")
def test_five_minutes_with_curl(server: httpx.Client, tmp_path: Path):
    found = re.search(r"### Five minutes with curl\n+```sh\n(.*?)```", PAGE, re.DOTALL)
    assert found
    script = found[1].replace(ADDRESS, str(server.base_url).rstrip("/"))
    done = subprocess.run(["bash", "-euo", "pipefail", "-c", script], cwd=tmp_path, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    said = done.stdout.decode()
    assert said.startswith('"label","documents","f1","specific_features"')
    assert said.endswith("304\n")
    assert pq.read_table(tmp_path / "features.parquet").num_rows == 120
