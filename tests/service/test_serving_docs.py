"""docs/serving.md names the existing metrics, limits and commands."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import msgspec
import yaml
from litestar.testing import TestClient
from typer.testing import CliRunner

from tegakari.cli.app import app as cli
from tegakari.schemas.config import ServiceConfig
from tegakari.schemas.keys import KEY_SCOPES
from tegakari.service.admission import unsent
from tegakari.service.engine import sql_processes
from tegakari.service.process import server, slow_clients
from tests.support.service import RUN, get

PAGE = (Path(__file__).parents[2] / "docs" / "serving.md").read_text(encoding="utf-8")


def test_every_metric_is_described(client: TestClient):
    get(client, f"/v1/runs/{RUN}")
    client.get("/v1/runs", headers={"Content-Length": "9" * 12})
    exported = re.findall(r"^# TYPE (tegakari_\S+) (\w+)$", client.get("/metrics").text, re.M)
    assert len(exported) >= 11
    described = set(re.findall(r"^\| `(tegakari_\w+)`", PAGE, re.M))
    assert {name for name, kind in exported if not name.endswith("_created")} == described


def test_every_setting_is_described():
    settings = {field.name for field in msgspec.structs.fields(ServiceConfig)} - {"host", "port"}
    names = set(re.findall(r"`(?:service\.)?([a-z_]+)(?:`| = )", PAGE))
    assert settings <= names


def test_limits_are_those_of_the_page():
    defaults = ServiceConfig()
    assert f"| `max_requests` | {defaults.max_requests} " in PAGE
    assert f"| `max_body_bytes` | {defaults.max_body_bytes:,} |" in PAGE
    assert f"| `body_seconds` | {defaults.body_seconds:g} |" in PAGE
    assert f"| `max_result_bytes` | {defaults.max_result_bytes:,} " in PAGE
    waiting = (slow_clients.WRITE_BUFFER + unsent.PART_BYTES) // 1024
    assert f"| {slow_clients.WRITE_SECONDS:g} seconds per {waiting} KB that wait for it, " in PAGE
    assert f"{sql_processes.SEND_SECONDS:g} seconds for a SQL result" in PAGE
    assert f"the kernel keeps {2 * server.SEND_BUFFER // 1024} KB for {server.UNREAD_SECONDS} seconds |" in PAGE
    assert f"| bodies that clients have not read yet | {unsent.MAX_UNSENT_BYTES // 2**20} MB per worker |" in PAGE
    assert (
        f"| headers | {slow_clients.MAX_HEADER_BYTES // 1000 - 1} KB, {slow_clients.HEADER_SECONDS:g} seconds |" in PAGE
    )
    assert re.findall(r"^\| `(read|compute|admin)` \|", PAGE, re.M) == list(KEY_SCOPES)


def test_commands_exist():
    for command in re.findall(r"^tegakari (keys \w+|serve)", PAGE, re.M):
        assert CliRunner().invoke(cli, [*command.split(), "--help"]).exit_code == 0
    for option in set(re.findall(r"--[a-z][a-z-]+", PAGE)):
        pages = [
            CliRunner().invoke(cli, [*command, "--help"], env={"COLUMNS": "300"}).stdout
            for command in (["serve"], ["keys", "create"])
        ]
        assert any(option in page for page in pages), option


def test_snippets_can_be_parsed():
    for text in re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL):
        assert yaml.safe_load(text)["scrape_configs"][0]["job_name"] == "tegakari"
    for line in re.findall(r"`((?:cors_origins|trusted_proxies|telemetry) = [^`]+)`", PAGE):
        msgspec.convert(tomllib.loads(line), ServiceConfig)
