"""docs/api.md: its commands run against a real server, its results have the real fields, it has every route."""

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
from tests.support.service import RUN, analysis_of

PAGE = (Path(__file__).parents[2] / "docs" / "api.md").read_text(encoding="utf-8")
ADDRESS = "http://127.0.0.1:8765"


class Example(NamedTuple):
    """A command of the page, and the result below it, if there is one."""

    route: str
    command: str
    result: str | None


def examples() -> list[Example]:
    examples = []
    for section in PAGE.split("\n## ")[1:]:
        route, _, text = section.partition("\n")
        command = re.search(r"```sh\n(.*?)```", text, re.DOTALL)
        result = re.search(r"```json\n(.*?)```", text, re.DOTALL)
        assert command, f"{route} has no example"
        examples.append(Example(route, command[1].strip(), result[1] if result else None))
    return examples


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
    settings = resolve(run, KnockoutSettings(label=LABELS[0], layer=0, k=2))
    headers = {"Content-Type": "application/json"}
    server.post(f"/v1/runs/{RUN}/knockouts", content=msgspec.json.encode(settings), headers=headers)
    return knockout_key(run, settings)


@pytest.mark.skipif(shutil.which("curl") is None, reason="no curl on this machine")
@pytest.mark.parametrize("example", examples(), ids=lambda example: example.route)
def test_examples_return_the_fields_of_the_page(server: httpx.Client, store: Path, example: Example):
    assert ADDRESS in example.command
    command = example.command.replace(ADDRESS, str(server.base_url).rstrip("/"))
    first = server.get(f"/v1/runs/{RUN}/documents", params={"label": LABELS[0]}).json()["items"][0]["document"]
    server.patch(f"/v1/runs/{RUN}/layers/1/features/3/note", json={"author": "Ann", "starred": True})
    sentence = {"author": "Ann", "text": "names of small trucks"}
    explanation = server.post(f"/v1/runs/{RUN}/layers/1/features/3/explanations", json=sentence).json()
    done = subprocess.run(
        f"{command} -sS --fail-with-body",
        shell=True,
        capture_output=True,
        text=True,
        check=False,
        env={
            **os.environ,
            "DOCUMENT": quote(first, safe=""),
            "EXPLANATION": explanation["id"],
            "KNOCKOUT": _knockout(server, store),
            "ANALYSIS": analysis_of(Store(store).run(RUN)),
        },
    )
    if done.returncode and "model-not-here" in done.stdout:  # the drawn run has no model; the request is valid
        return
    if done.returncode and "`tegakari " in done.stdout and "not-found" in done.stdout:  # nor stored analyses
        return
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout or example.route.startswith("DELETE /v1/analyses")
    if example.result is not None:
        assert shape(json.loads(done.stdout)) == shape(json.loads(example.result))


@pytest.mark.skipif(shutil.which("curl") is None, reason="no curl on this machine")
def test_five_minutes_with_curl(server: httpx.Client, tmp_path: Path):
    section = re.search(r"### Five minutes with curl\n+```sh\n(.*?)```", PAGE, re.DOTALL)
    assert section
    script = section[1].replace(ADDRESS, str(server.base_url).rstrip("/"))
    done = subprocess.run(["bash", "-euo", "pipefail", "-c", script], cwd=tmp_path, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    output = done.stdout.decode()
    assert output.startswith('"label","documents","f1","specific_features"')
    assert output.endswith("304\n")
    assert pq.read_table(tmp_path / "features.parquet").num_rows == 120
