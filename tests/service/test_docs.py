"""docs/api.md is true: its commands run against a real server, its answers have the real fields, it has every route."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest
from litestar.testing import TestClient

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
    routes = {f"GET {path}" for path in document["paths"]}
    assert {example.route for example in examples()} == routes
    for path, methods in document["paths"].items():
        section = PAGE.split(f"\n## GET {path}\n")[1].split("\n## ")[0]
        for parameter in methods["get"].get("parameters", []):
            assert parameter["in"] == "path" or f"`{parameter['name']}`" in section


@pytest.mark.skipif(shutil.which("curl") is None, reason="no curl on this machine")
@pytest.mark.parametrize("example", examples(), ids=lambda example: example.route)
def test_examples_run_and_answer_as_shown(server: httpx.Client, example: Example):
    assert ADDRESS in example.command
    command = example.command.replace(ADDRESS, str(server.base_url).rstrip("/"))
    done = subprocess.run(f"{command} -sS --fail-with-body", shell=True, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    answer = json.loads(done.stdout)
    assert answer
    if example.answer is not None:
        assert shape(answer) == shape(json.loads(example.answer))
