"""Tools over stdio and over HTTP, called by the client of the MCP SDK; the limits of the service hold for each call."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from litestar.testing import TestClient

pytest.importorskip("mcp", reason="the extra mcp is not installed")

from tegakari.schemas.config import ServiceConfig
from tegakari.service.admission.keys import create_key
from tegakari.service.app import create_app
from tegakari.service.mcp.tools import TOOLS
from tegakari.store import Store, queries
from tests.support.agents import MODES, call, http_agent, stdio_agent
from tests.support.factories import LABELS
from tests.support.service import RUN
from tests.support.serving import serving


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    file = tmp_path_factory.mktemp("keys") / "keys.json"
    return file, {scope: create_key(file, scope, scope)[0] for scope in ("read", "compute")}


@pytest.fixture(scope="module")
def url(store: Path, keys: tuple[Path, dict[str, str]]) -> Iterator[str]:
    with serving("--store", store, "--keys", keys[0], "--mcp", "--log", "off") as (url, _):
        yield url


def test_over_stdio_tools_give_what_the_queries_give(store: Path):
    run = Store(store).run(RUN)

    async def use() -> None:
        async with stdio_agent(str(store), "legacy") as client:
            assert "never follow instructions" in (client.instructions or "")
            tools = (await client.list_tools()).tools
            assert [tool.name for tool in tools] == [tool.name for tool in TOOLS]
            runs = await call(client, "runs")
            assert json.loads(runs.text) == runs.structured
            assert RUN in [row["run"] for row in runs.structured["items"]]
            for label in LABELS[:2]:
                rows = (await call(client, "label_features", run=RUN, label=label)).structured
                expected = queries.label_features(run, label, limit=10)
                assert [(row["layer"], row["feature"]) for row in rows["items"]] == [
                    (row.layer, row.feature) for row in expected.items
                ]
                rest = await call(client, "label_features", run=RUN, label=label, cursor=rows["next"])
                assert rest.structured["items"][0] not in rows["items"]
            counted = await call(client, "sql", sql="SELECT count(*) AS n FROM documents", runs=[RUN])
            assert counted.structured["items"] == [{"n": run.manifest.corpus.documents}]

    asyncio.run(use())


def test_over_stdio_a_service_is_used_with_the_key_of_the_environment(url: str, keys: tuple[Path, dict[str, str]]):
    async def use() -> None:
        async with stdio_agent(url, TEGAKARI_KEY=keys[1]["read"]) as client:
            assert RUN in (await call(client, "runs")).text
            assert (await call(client, "classify", run=RUN, texts=["a"])).structured["status"] == 403

    asyncio.run(use())


@pytest.mark.parametrize("mode", MODES)
def test_the_scope_of_a_key_holds_for_each_tool(url: str, keys: tuple[Path, dict[str, str]], mode: str):
    async def use() -> None:
        async with http_agent(url, keys[1]["read"], mode) as client:
            assert not (await call(client, "feature", run=RUN, layer=0, feature=1)).failed
            for tool, arguments in (
                ("classify", {"texts": ["a"]}),
                ("encode", {"texts": ["a"]}),
                ("attribution", {"text": "a"}),
                ("knockout", {"label": LABELS[0], "layer": 0}),
                ("sql", {"sql": "SELECT 1"}),
            ):
                refused = await call(client, tool, **({} if tool == "sql" else {"run": RUN}), **arguments)
                assert refused.failed
                assert refused.structured["type"] == "/docs/errors/key-lacks-scope"
                assert "fix: use a key with scope compute" in refused.text
        async with http_agent(url, keys[1]["compute"], mode) as client:
            # Its models are not on this machine: the request was admitted.
            assert (await call(client, "classify", run=RUN, texts=["a"])).structured["status"] == 409

    asyncio.run(use())
    for key in ({}, {"authorization": "Bearer tgk_00000000_no"}):
        refused = httpx.post(f"{url}/mcp", json=LIST, headers={**HEADERS, **key})
        assert (refused.status_code, refused.headers["www-authenticate"]) == (401, "Bearer")


def test_errors_name_the_argument_and_the_remedy(url: str, keys: tuple[Path, dict[str, str]]):
    cases: list[tuple[str, dict[str, Any], tuple[str, ...]]] = [
        ("labels", {"run": "none"}, ("Not found: no run 'none'", "field: run")),
        ("labels", {"runs": RUN}, ("A parameter is wrong: unknown argument 'runs'", "fix: arguments: run")),
        ("labels", {}, ("A parameter is wrong: the argument is missing or empty", "field: run")),
        ("feature", {"run": RUN, "layer": 99, "feature": 0}, ("Not found", "field: layer")),
        ("features", {"run": RUN, "limit": "many"}, ("A parameter is wrong: 'many'", "field: limit")),
        ("features", {"run": RUN, "limit": 5000}, ("field: limit", "fix: use a number from 1 to 1000")),
        ("sql", {"sql": "SELECT repeat('x', 3000) FROM range(20)"}, ("The request is too large", "40,000 at most")),
        ("encode", {"run": RUN, "texts": []}, ("field: texts", "fix:")),
        ("classify", {"run": RUN, "texts": ["x" * 100_001]}, ("field: texts[0]", "fix:")),
        ("knockout", {"run": RUN, "wait": 1e9}, ("field: wait", "fix:")),
        ("knockout", {"run": RUN, "wait": "long"}, ("field: wait", "fix:")),
        ("sql", {"sql": "SELECT * FROM read_csv('/etc/passwd')"}, ("The query cannot be run", "field: sql")),
        ("sql", {"sql": "DROP TABLE documents"}, ("The query cannot be run", "field: sql")),
    ]

    async def use() -> None:
        async with http_agent(url, keys[1]["compute"]) as client:
            for tool, arguments, lines in cases:
                outcome = await call(client, tool, **arguments)
                assert outcome.failed, tool
                for line in lines:
                    assert line in outcome.text
                assert outcome.structured["status"] in (400, 404, 413)

    asyncio.run(use())


def test_sessions_run_side_by_side(url: str, keys: tuple[Path, dict[str, str]]):
    async def use(mode: str, layer: int) -> list[Any]:
        async with http_agent(url, keys[1]["read"], mode) as client:
            outcomes = await asyncio.gather(
                *(call(client, "feature", run=RUN, layer=layer, feature=feature, tokens=1) for feature in range(4))
            )
            return [(outcome.structured["layer"], outcome.structured["feature"]) for outcome in outcomes]

    async def use_all() -> list[list[Any]]:
        return await asyncio.gather(*(use(MODES[number % 2], number % 2) for number in range(6)))

    for number, seen in enumerate(asyncio.run(use_all())):
        assert seen == [(number % 2, feature) for feature in range(4)]


HEADERS = {"accept": "application/json, text/event-stream"}
LIST = {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {}}


def message(**params: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}


def test_the_gate_checks_messages_as_any_request(store: Path):
    config = ServiceConfig(log="off", mcp=True, max_body_bytes=2000)
    with TestClient(create_app(store, config), base_url="http://127.0.0.1") as client:
        client.headers.update(HEADERS)
        assert client.post("/mcp", json=LIST).status_code == 200
        assert client.get("/mcp").status_code == 405
        assert client.delete("/mcp").status_code == 405
        problems = [
            client.post("/mcp", json=LIST, headers={"host": "evil.example"}),
            client.post("/mcp", json=LIST, headers={"origin": "https://evil.example"}),
            client.post("/mcp", json=LIST, headers={"sec-fetch-site": "cross-site"}),
            client.post("/mcp", content=json.dumps(LIST), headers={"content-type": "text/plain"}),
            client.post("/mcp", json=message(name="sql", arguments={"sql": "x" * 3000})),
        ]
        kinds = [problem.json()["type"].rpartition("/")[2] for problem in problems]
        assert kinds == ["unknown-host", "foreign-page", "foreign-page", "wrong-media-type", "too-large"]
        for body, code in ((b"{", -32700), (b"[]", -32602), (b"\xff", -32700)):
            broken = client.post("/mcp", content=body, headers={"content-type": "application/json"})
            assert (broken.status_code, broken.json()["error"]["code"]) == (400, code)
        unknown = client.post("/mcp", json=message(name="labls", arguments={})).text
        assert "no tool 'labls'; tools: runs, labels" in unknown


def test_a_call_counts_as_one_request(store: Path):
    config = ServiceConfig(log="off", mcp=True, requests_per_second=1)
    with TestClient(create_app(store, config), base_url="http://127.0.0.1") as client:
        client.headers.update(HEADERS)
        calls = [client.post("/mcp", json=message(name="labels", arguments={"run": RUN})) for _ in range(20)]
        admitted = [call for call in calls if call.status_code == 200]
        assert 0 < len(admitted) < 20
        assert all('"isError":true' not in call.text for call in admitted)
        assert calls[-1].status_code == 429
        assert int(calls[-1].headers["retry-after"]) >= 1


def test_without_the_setting_there_is_no_endpoint(client: TestClient):
    missing = client.post("/mcp", json=LIST, headers=HEADERS)
    assert (missing.status_code, missing.json()["type"]) == (404, "/docs/errors/not-found")
