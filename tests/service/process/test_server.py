"""`tegakari serve` as a process: addresses, refusals, shutdown."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx
import pytest

from tegakari.schemas.config import ServiceConfig
from tegakari.schemas.errors import ConfigError
from tegakari.service.process.server import serve
from tests.support.service import RUN
from tests.support.serving import serving


@pytest.mark.parametrize("signal_number", [signal.SIGTERM, signal.SIGINT])
def test_signals_end_the_server_cleanly(store: Path, signal_number: signal.Signals):
    with serving("--store", store) as (url, process):
        assert httpx.get(f"{url}/v1/runs/{RUN}/labels").status_code == 200
        httpx.get(f"{url}/v1/runs/x%0A00:00:00%20[info]%20forged")
        process.send_signal(signal_number)
        assert process.stderr is not None
        log = process.stderr.read()
        assert process.wait(20) == 0
    assert "stopped" in log
    assert f"path=/v1/runs/{RUN}/labels" in log
    assert "status=200" in log
    assert not any(line.startswith("00:00:00") for line in log.splitlines())
    assert "Traceback" not in log
    assert "leaked" not in log  # nanobind counts what DuckDB leaves alive at exit


def test_responses_are_not_delayed(server: httpx.Client):
    """Nagle's algorithm and delayed acknowledgements would cost 40 ms per request."""
    seconds = []
    for _ in range(20):
        start = time.perf_counter()
        server.get("/healthz")
        seconds.append(time.perf_counter() - start)
    assert min(seconds) < 0.03


def test_ipv6_works(store: Path):
    with serving("--store", store, "--host", "::1") as (url, _):
        assert url.startswith("http://[::1]:")
        assert httpx.get(f"{url}/healthz").status_code == 200


def test_the_store_may_appear_later(tmp_path: Path):
    with serving("--store", tmp_path / "later") as (url, _):
        assert httpx.get(f"{url}/readyz").status_code == 503
        (tmp_path / "later").mkdir()
        assert httpx.get(f"{url}/readyz").status_code == 200


def test_the_command_prints_why_it_refuses(store: Path):
    command = [sys.executable, "-c", "from tegakari.cli import main; main()", "serve", "--host", "0.0.0.0"]
    done = subprocess.run([*command, "--store", store], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 1
    assert "service.host" in done.stderr
    assert "fix:" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "8.8.8.8"])
def test_public_addresses_without_keys_are_refused(store: Path, host: str):
    with pytest.raises(ConfigError, match="no API keys") as refused:
        serve(ServiceConfig(host=host, port=0), store)
    assert refused.value.field == "service.host"


@pytest.mark.parametrize("host", ["no.such.host.invalid", ""])
def test_a_wrong_address_is_refused(store: Path, host: str):
    with pytest.raises(ConfigError, match="not an address") as refused:
        serve(ServiceConfig(host=host), store)
    assert refused.value.field == "service.host"


def test_a_port_in_use_is_refused(store: Path):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(ConfigError, match=str(port)) as refused:
            serve(ServiceConfig(port=port), store)
    assert refused.value.field == "service.port"


def test_insecure_listens_on_every_address(store: Path):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    config = ServiceConfig(host="0.0.0.0", port=port)
    threading.Thread(target=serve, args=(config, store), kwargs={"insecure": 2}, daemon=True).start()
    for _ in range(600):
        try:
            assert httpx.get(f"http://127.0.0.1:{port}/healthz").status_code == 200
            return
        except httpx.TransportError:
            time.sleep(0.1)
    raise AssertionError("the server never responded")
