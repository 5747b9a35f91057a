"""Tools that run models, and knockouts that are waited for, over a port."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
import uvicorn

pytest.importorskip("mcp", reason="the extra mcp is not installed")

from tegakari.schemas.config import ServiceConfig
from tegakari.service.app import create_app
from tegakari.service.mcp import calls
from tests.support.agents import MODES, call, http_agent
from tests.support.live_case import LiveCase

LABEL = "車/軽"
TEXT = "軽トラ\nとても楽しい"


@asynccontextmanager
async def service(live_case: LiveCase) -> AsyncIterator[str]:
    """A service of the case's store on a port: its address."""
    app: Any = create_app(live_case.store, ServiceConfig(log="off", warm="off", mcp=True))
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_config=None, ws="none"))
    serving = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    host, port = server.servers[0].sockets[0].getsockname()
    try:
        yield f"http://{host}:{port}"
    finally:
        server.should_exit = True
        await serving


def slow(live_case: LiveCase, seed: int, draws: int = 100) -> dict[str, Any]:
    """A knockout that takes seconds."""
    texts = ([text for _, _, _, text in live_case.case.documents] * 10)[:250]
    return {"run": "small", "label": LABEL, "layer": 0, "k": 4, "draws": draws, "seed": seed, "texts": texts}


def test_tools_give_what_the_api_gives(live_case: LiveCase):
    (document,) = list(live_case.texts)[:1]

    async def use() -> None:
        async with (
            service(live_case) as url,
            http_agent(url) as client,
            httpx.AsyncClient(base_url=f"{url}/v1/runs/small", timeout=60) as api,
        ):
            predicted = (await api.post("/classify", json={"texts": [TEXT]})).json()["items"][0]
            shown = (await call(client, "classify", run="small", texts=[TEXT])).structured["items"][0]
            assert shown["predicted"] == predicted["predicted"]
            probabilities = sorted((row["probability"] for row in predicted["labels"]), reverse=True)
            assert [row["probability"] for row in shown["labels"]] == pytest.approx(probabilities, rel=1e-4)
            encoded = (await api.post("/encode", json={"texts": [TEXT], "layers": [1], "top": 10})).json()["items"][0]
            shown = (await call(client, "encode", run="small", texts=[TEXT], layers=[1])).structured["items"][0]
            assert [row["feature"] for row in shown["features"]] == [row["feature"] for row in encoded["features"]]
            attribution = (await api.post("/attribution", json={"document": document})).json()
            shown = (await call(client, "attribution", run="small", document=document)).structured
            assert shown["margin"] == pytest.approx(attribution["margin"], rel=1e-3)
            assert shown["tokens"][0]["strength"] == max(row["strength"] for row in shown["tokens"])
            knockout = (await api.post("/knockouts", json={"label": LABEL, "layer": 1, "k": 3})).json()
            shown = (await call(client, "knockout", run="small", label=LABEL, layer=1, k=3)).structured
            assert (shown["id"], shown["state"]) == (knockout["id"], "done")
            assert shown["result"]["delta"] == pytest.approx(knockout["result"]["delta"], rel=1e-4)
            assert "provenance" not in shown["result"]

    asyncio.run(use())


async def until(api: httpx.AsyncClient, seed: int, *states: str) -> None:
    """Wait until the knockout with a seed is in one of the states."""
    end = time.monotonic() + 30
    state = None
    while state not in states:
        assert time.monotonic() < end, state
        await asyncio.sleep(0.01)
        for row in (await api.get("/v1/knockouts")).json()["items"]:
            job = (await api.get(f"/v1/knockouts/{row['id']}")).json()
            state = job["state"] if job["settings"]["seed"] == seed else state


@pytest.mark.parametrize("mode", MODES)
def test_a_cancelled_call_cancels_its_knockout(live_case: LiveCase, mode: str):
    seed = 20 + MODES.index(mode)

    async def use() -> None:
        async with service(live_case) as url, httpx.AsyncClient(base_url=url, timeout=60) as api:
            async with http_agent(url, mode=mode) as client:
                calling = asyncio.create_task(call(client, "knockout", **slow(live_case, seed)))
                await until(api, seed, "queued", "loading", "running")
                calling.cancel()
                await asyncio.wait({calling})
                if mode == MODES[0]:  # older versions tell the server with a message that no session receives
                    await until(api, seed, "cancelled")
            await until(api, seed, "cancelled")  # the connection is closed

    asyncio.run(use())


def test_a_long_knockout_reports_progress_and_can_be_cancelled_between_two_steps(
    live_case: LiveCase, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(calls, "STEP_SECONDS", 0.2)
    reports: list[tuple[float, float | None, str | None]] = []

    async def report(done: float, total: float | None, state: str | None) -> None:
        reports.append((done, total, state))

    async def use() -> None:
        async with (
            service(live_case) as url,
            httpx.AsyncClient(base_url=url, timeout=60) as api,
            http_agent(url) as client,
        ):
            finished = await call(client, "knockout", report, **slow(live_case, 10, draws=30))
            assert finished.structured["state"] == "done"
            assert [done for done, _, _ in reports] == sorted(done for done, _, _ in reports)
            assert reports[-1][1:] == (250, "running")
            reports.clear()
            calling = asyncio.create_task(call(client, "knockout", report, **slow(live_case, 11)))
            while not reports:
                await asyncio.sleep(0.01)
            calling.cancel()
            await until(api, 11, "cancelled")
            waited = await call(client, "knockout", wait=0.1, **slow(live_case, 12))
            assert not waited.failed
            assert waited.structured["state"] in ("queued", "loading", "running")  # it goes on
            await api.delete(f"/v1/knockouts/{waited.structured['id']}")

    asyncio.run(use())
