"""The gate: limits, request ids, security headers, compression, metrics, logs."""

from __future__ import annotations

import asyncio
import gzip
import re
import time
from pathlib import Path
from typing import Any

import httpx
import pyarrow as pa
import pytest
from litestar.testing import TestClient

from tegakari.schemas.config import ServiceConfig
from tegakari.schemas.errors import RateError
from tegakari.service.admission import gate as gate_module
from tegakari.service.admission.limits import Rates
from tegakari.service.app import create_app
from tegakari.service.observe import metrics
from tegakari.store import queries
from tests.support.factories import LABELS
from tests.support.service import RUN, get, segment

PATH = f"/v1/runs/{RUN}/labels/{segment(LABELS[0])}/features"


def client_with(store: Path, **config: Any) -> TestClient:
    app = create_app(store, ServiceConfig(**{"log": "off", **config}))
    return TestClient(app, base_url="http://127.0.0.1", raise_server_exceptions=False)


@pytest.mark.parametrize("path", [PATH, "/nowhere", "/healthz", "/v1/runs?x=1", "/metrics"])
def test_every_response_has_security_headers(client: TestClient, path: str):
    headers = client.get(path).headers
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["x-frame-options"] == "DENY"
    assert headers["content-security-policy"] == "default-src 'none'; frame-ancestors 'none'"
    assert headers["referrer-policy"] == "no-referrer"
    assert "access-control-allow-origin" not in headers
    assert "server" not in headers


@pytest.mark.parametrize("path", ["/schema", "/docs/errors/busy"])
def test_pages_run_only_scripts_of_this_server(client: TestClient, path: str):
    policy = client.get(path).headers["content-security-policy"]
    assert policy.startswith("default-src 'self'")
    assert "script-src" not in policy
    assert "unsafe-eval" not in policy


def test_other_origins_are_refused_unless_configured(store: Path):
    origin = {"Origin": "https://notebook.example"}
    with client_with(store) as client:
        assert "access-control-allow-origin" not in client.get(PATH, headers=origin).headers
    with client_with(store, cors_origins=["https://notebook.example"]) as client:
        assert client.get(PATH, headers=origin).headers["access-control-allow-origin"] == origin["Origin"]
        other = client.get(PATH, headers={"Origin": "https://evil.example"})
        assert "access-control-allow-origin" not in other.headers
        preflight = client.options(PATH, headers={**origin, "Access-Control-Request-Method": "GET"})
        assert preflight.status_code == 204


def test_request_ids_are_those_of_the_client_or_new(client: TestClient):
    assert client.get(PATH, headers={"X-Request-ID": "my-1.a_B"}).headers["x-request-id"] == "my-1.a_B"
    new_ids = [client.get(PATH).headers["x-request-id"] for _ in range(3)]
    assert len(set(new_ids)) == 3
    for forged in ("a b", "x" * 65, "a,b", "a\tb"):
        assert client.get(PATH, headers={"X-Request-ID": forged}).headers["x-request-id"] != forged


DECODERS = {
    "gzip": gzip.decompress,
    "zstd": lambda data: pa.input_stream(pa.BufferReader(data), compression="zstd").read(),
    "br": lambda data: pa.input_stream(pa.BufferReader(data), compression="brotli").read(),
}


@pytest.mark.parametrize(
    ("accepted", "coding"),
    [
        ("gzip", "gzip"),
        ("zstd", "zstd"),
        ("br", "br"),
        ("gzip, deflate, br, zstd", "zstd"),
        ("gzip;q=1.0, zstd;q=0", "gzip"),
        ("identity", None),
        ("deflate", None),
        ("", None),
    ],
)
def test_responses_are_compressed_as_accepted(server: httpx.Client, accepted: str, coding: str | None):
    plain = server.get(PATH, headers={"Accept-Encoding": "identity"})
    with server.stream("GET", PATH, headers={"Accept-Encoding": accepted}) as response:
        raw = b"".join(response.iter_raw())
    assert response.headers.get("content-encoding") == coding
    assert "Accept-Encoding" in response.headers["vary"]
    assert int(response.headers["content-length"]) == len(raw)
    assert (DECODERS[coding](raw) if coding else raw) == plain.content
    if coding:
        assert len(raw) < len(plain.content) / 2
        assert response.headers["etag"] != plain.headers["etag"]


def test_small_or_compressed_bodies_are_not_compressed(server: httpx.Client):
    assert "content-encoding" not in server.get("/healthz", headers={"Accept-Encoding": "gzip"}).headers
    parquet = server.get(PATH, params={"format": "parquet"}, headers={"Accept-Encoding": "gzip"})
    assert "content-encoding" not in parquet.headers


def test_rates_are_counted_per_client_across_workers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    rates, other_worker = Rates(tmp_path / "rates"), Rates(tmp_path / "rates")  # one file, two workers
    for turn in range(10):
        (rates, other_worker)[turn % 2].admit("a", 10)
    with pytest.raises(RateError) as refused:
        other_worker.admit("a", 10)
    assert 0 < refused.value.retry_after <= 0.1 + 1e-9
    rates.admit("b", 10)
    now += 0.1
    rates.admit("a", 10)
    with pytest.raises(RateError):
        rates.admit("a", 10)
    now += 60
    for _ in range(10):
        rates.admit("a", 10)
    with pytest.raises(RateError):
        rates.admit("a", 10)


def test_rates_below_one_per_second(monkeypatch: pytest.MonkeyPatch):
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    rates = Rates()
    rates.admit("a", 0.5)
    now += 1.9
    with pytest.raises(RateError):
        rates.admit("a", 0.5)
    now += 0.2
    rates.admit("a", 0.5)


def test_an_address_beyond_its_rate_gets_retry_after(store: Path):
    with client_with(store, requests_per_second=3) as client:
        responses = [client.get(PATH) for _ in range(8)]
        assert [response.status_code for response in responses][:3] == [200] * 3
        refused = [response for response in responses if response.status_code != 200]
        assert refused
        assert all(response.status_code == 429 and int(response.headers["retry-after"]) >= 1 for response in refused)
        assert client.get("/healthz").status_code == 200


def test_requests_beyond_the_maximum_are_refused(store: Path, monkeypatch: pytest.MonkeyPatch):
    real = queries.specificity
    monkeypatch.setattr(
        queries, "specificity", lambda *arguments, **options: time.sleep(0.5) or real(*arguments, **options)
    )
    app: Any = create_app(store, ServiceConfig(log="off", max_requests=2))

    async def send_requests() -> list[httpx.Response]:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client:
            path = f"/v1/runs/{RUN}/specificity"
            await client.get("/v1/runs")
            simultaneous = await asyncio.gather(*(client.get(path) for _ in range(5)))
            return [*simultaneous, await client.get(path)]

    *simultaneous, last = asyncio.run(send_requests())
    assert sorted(response.status_code for response in simultaneous) == [200, 200, 503, 503, 503]
    refused = next(response for response in simultaneous if response.status_code == 503)
    assert refused.json()["type"] == "/docs/errors/overloaded"
    assert refused.headers["retry-after"] == "1"
    assert last.status_code == 200


def test_metrics_have_bounded_labels(client: TestClient):
    for number in range(20):
        client.get(f"/v1/runs/made-up-{number}")
        client.get(f"/nowhere/{number}")
        client.request(f"VERB{number}", PATH)
    text = client.get("/metrics").text
    assert "made-up" not in text
    assert "nowhere" not in text
    assert "VERB" not in text
    assert 'route="/v1/runs/{run}"' in text
    assert 'route="none"' in text
    labels = re.findall(r'^tegakari_http_requests_total\{method="(\w+)",route="([^"]*)",status="(\d+)"\}', text, re.M)
    routes = {re.sub(r":\w+\}", "}", route.path) for route in client.app.routes} | {"none", "/mcp"}  # of all tests
    assert {route for _, route, _ in labels} <= routes, "a label that a client made up"
    assert {method for method, _, _ in labels} <= {*metrics.METHODS, "other"}
    assert "tegakari_http_request_seconds_bucket" in text


def test_a_client_has_a_limited_number_of_requests_in_progress(store: Path):
    """Two addresses and two keys: what is in progress counts per client, and no longer once it has ended."""
    gate = client_with(store, max_requests_per_client=2).app.gate  # type: ignore[attr-defined]
    gate._begin_of("address 10.0.0.1")
    gate._begin_of("address 10.0.0.1")
    with pytest.raises(RateError, match="2 requests of this client are in progress") as refused:
        gate._begin_of("address 10.0.0.1")
    assert (refused.value.status, refused.value.retry_after) == (429, 1)
    gate._begin_of("address 10.0.0.2")
    gate._end_of("address 10.0.0.1")
    gate._begin_of("address 10.0.0.1")
    for client in ("address 10.0.0.1", "address 10.0.0.1", "address 10.0.0.2"):
        gate._end_of(client)
    assert not gate._in_progress_of


def test_refused_requests_are_not_in_progress(store: Path):
    with client_with(store, max_requests_per_client=1, requests_per_second=1) as client:
        statuses = [client.get(PATH).status_code for _ in range(5)]
        assert statuses[0] == 200
        assert set(statuses[1:]) == {429}
        assert not client.app.gate._in_progress_of  # type: ignore[attr-defined]


def test_a_large_body_is_compressed_off_the_event_loop(store: Path, monkeypatch: pytest.MonkeyPatch):
    on_loop: list[bool] = []
    compress = gate_module.compress

    def recorded(body: bytes, coding: str) -> bytes:
        on_loop.append(asyncio._get_running_loop() is not None)
        return compress(body, coding)

    monkeypatch.setattr(gate_module, "compress", recorded)
    monkeypatch.setattr(gate_module, "PART_BYTES", 4000)
    with client_with(store) as client:
        for limit, threaded in ((1000, True), (6, False)):
            on_loop.clear()
            path = f"/v1/runs/{RUN}/features?limit={limit}"
            response = client.get(path, headers={"accept-encoding": "gzip"})
            assert response.headers["content-encoding"] == "gzip"
            assert len(response.json()["items"]) >= 6
            assert on_loop == [not threaded]


def test_metrics_count_requests(client: TestClient):
    line = r'^tegakari_http_requests_total\{method="GET",route="/v1/runs/\{run\}/specificity",status="200"\} ([\d.]+)'

    def count() -> float:
        match = re.search(line, client.get("/metrics").text, re.M)
        return float(match[1]) if match else 0

    before = count()
    for _ in range(3):
        get(client, f"/v1/runs/{RUN}/specificity")
    assert count() == before + 3


def test_log_lines_have_neither_texts_nor_parameters(store: Path, capsys: pytest.CaptureFixture[str]):
    from tegakari.service.observe.logs import set_up_logs

    set_up_logs("json")
    with client_with(store, log="json") as client:
        client.get(f"/v1/runs/{RUN}/features", params={"token": "secret-word"}, headers={"X-Request-ID": "r-1"})
        client.post(f"/v1/runs/{RUN}/classify", json={"texts": ["secret-text"]})
    logged = capsys.readouterr().err
    assert '"id":"r-1"' in logged.replace(" ", "")
    assert "secret" not in logged
