"""API keys: printed once, stored as hashes, required once there are any, refused when revoked or expired."""

from __future__ import annotations

import json
import stat
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import msgspec
import pytest
from litestar.testing import TestClient
from typer.testing import CliRunner

from tegakari.cli.app import app as cli
from tegakari.schemas.config import ServiceConfig
from tegakari.schemas.errors import ConfigError, NoKeyError, NotFoundError
from tegakari.schemas.keys import KeyFile
from tegakari.service.admission import keys as keys_module
from tegakari.service.admission.keys import KeyRing, create_key, read_keys, revoke_key
from tegakari.service.app import create_app
from tegakari.service.process.server import serve
from tests.support.service import RUN
from tests.support.serving import serving

PATH = f"/v1/runs/{RUN}/labels"


def client_with(store: Path, file: Path, **config) -> TestClient:
    app = create_app(store, ServiceConfig(log="off", **config), keys=file)
    return TestClient(app, base_url="http://127.0.0.1", raise_server_exceptions=False)


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def test_a_key_is_stored_as_a_hash_that_only_its_owner_reads(tmp_path: Path):
    file = tmp_path / "deep" / "keys.json"
    key, record = create_key(file, "notebook", "compute", days=2, requests_per_second=5)
    assert key not in file.read_text()
    assert key.split("_", 2)[2] not in file.read_text()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert read_keys(file) == [record]
    assert (record.name, record.scope, record.requests_per_second) == ("notebook", "compute", 5)
    assert datetime.fromisoformat(str(record.expires)) > datetime.now(UTC) + timedelta(days=1)
    second, _ = create_key(file, "notebook", "read")
    assert second != key
    assert len(read_keys(file)) == 2


def test_without_keys_no_request_needs_one(store: Path, tmp_path: Path):
    with client_with(store, tmp_path / "keys.json") as client:
        assert client.get(PATH).status_code == 200


def test_with_keys_v1_and_metrics_need_one(store: Path, tmp_path: Path):
    key, _ = create_key(tmp_path / "keys.json", "a", "read")
    with client_with(store, tmp_path / "keys.json") as client:
        for path in ("/v1/runs", PATH, "/v1/runs/nope", "/v1/nowhere", "/v1", "/metrics"):
            refused = client.get(path)
            assert (refused.status_code, refused.json()["type"]) == (401, "/docs/errors/no-key"), path
            assert refused.headers["www-authenticate"] == "Bearer"
        for path in ("/healthz", "/readyz", "/schema/openapi.json", "/docs/errors/no-key"):
            assert client.get(path).status_code == 200
        assert client.get(PATH, headers=bearer(key)).status_code == 200
        assert client.get(PATH, headers={"X-API-Key": key}).status_code == 200
        assert client.get(PATH, headers={"authorization": f"bEARER  {key}"}).status_code == 200
        assert client.get("/metrics", headers=bearer(key)).status_code == 200


@pytest.mark.parametrize(
    "change",
    [
        lambda key: key[:-1] + ("A" if key[-1] != "A" else "B"),
        lambda key: key[:-1],
        lambda key: key + "A",
        lambda key: key.upper(),
        lambda key: key.replace("tgk_", "TGK_"),
        lambda key: f"tgk_00000000{key[12:]}",
        lambda key: f"{key[:13]}{'A' * 43}",
        lambda key: "",
        lambda key: "x" * 60_000,
        lambda key: "tgk_",
        lambda key: key + "\x7f",
    ],
)
def test_any_other_key_is_refused(tmp_path: Path, change):
    key, _ = create_key(tmp_path / "keys.json", "a", "read")
    ring = KeyRing(tmp_path / "keys.json")
    assert ring.required
    assert ring.check(f"Bearer {key}", "").name == "a"
    for authorization, api_key in ((f"Bearer {change(key)}", ""), ("", change(key)), (change(key), "")):
        with pytest.raises(NoKeyError):
            ring.check(authorization, api_key)
    with pytest.raises(NoKeyError):
        ring.check(f"Basic {key}", "")


def test_every_check_compares_in_constant_time(tmp_path: Path, monkeypatch):
    create_key(tmp_path / "keys.json", "a", "read")
    compared = []
    real = keys_module.hmac.compare_digest
    monkeypatch.setattr(keys_module.hmac, "compare_digest", lambda a, b: compared.append((a, b)) or real(a, b))
    ring = KeyRing(tmp_path / "keys.json")
    with pytest.raises(NoKeyError):
        ring.check("Bearer tgk_00000000_unknown", "")
    assert len(compared) == 1
    assert len(compared[0][0]) == len(compared[0][1]) == 64


def test_a_revoked_key_is_refused_without_a_restart(store: Path, tmp_path: Path):
    file = tmp_path / "keys.json"
    with client_with(store, file) as client:
        assert client.get(PATH).status_code == 200
        key, record = create_key(file, "a", "read")
        other, _ = create_key(file, "b", "read")
        time.sleep(1.1)
        assert client.get(PATH).status_code == 401
        assert client.get(PATH, headers=bearer(key)).status_code == 200
        revoke_key(file, record.id)
        time.sleep(1.1)
        assert client.get(PATH, headers=bearer(key)).status_code == 401
        assert client.get(PATH, headers=bearer(other)).status_code == 200
        file.write_text("{damaged")
        time.sleep(1.1)
        assert client.get(PATH, headers=bearer(other)).status_code == 200
        file.unlink()  # deleting the file revokes all keys
        time.sleep(1.1)
        assert client.get(PATH).status_code == 401
        assert client.get(PATH, headers=bearer(other)).status_code == 401
    with pytest.raises(NotFoundError, match=record.id):
        revoke_key(file, record.id)


def test_an_expired_key_is_refused(store: Path, tmp_path: Path):
    file = tmp_path / "keys.json"
    key, record = create_key(file, "a", "read", days=1)
    past = (datetime.now(UTC) - timedelta(seconds=5)).isoformat(timespec="seconds")
    file.write_bytes(msgspec.json.encode(KeyFile(keys=[msgspec.structs.replace(record, expires=past)])))
    with client_with(store, file) as client:
        refused = client.get(PATH, headers=bearer(key))
    assert refused.status_code == 401
    assert past in refused.json()["detail"]


def test_a_key_needs_the_scope_of_the_route(store: Path, tmp_path: Path):
    file = tmp_path / "keys.json"
    reader, _ = create_key(file, "r", "read")
    compute, _ = create_key(file, "c", "compute")
    admin, _ = create_key(file, "a", "admin")
    path = f"/v1/runs/{RUN}/classify"
    with client_with(store, file) as client:
        refused = client.post(path, json={"texts": ["a"]}, headers=bearer(reader))
        assert (refused.status_code, refused.json()["type"]) == (403, "/docs/errors/key-lacks-scope")
        assert "compute" in refused.json()["detail"]
        for key in (compute, admin):
            # The run has no model, which only keys of the right scope learn.
            assert client.post(path, json={"texts": ["a"]}, headers=bearer(key)).status_code == 409
            assert client.get(PATH, headers=bearer(key)).status_code == 200


def test_a_key_has_its_own_rate(store: Path, tmp_path: Path):
    file = tmp_path / "keys.json"
    slow, _ = create_key(file, "slow", "read", requests_per_second=2)
    quick, _ = create_key(file, "quick", "read")
    with client_with(store, file) as client:
        statuses = [client.get(PATH, headers=bearer(slow)).status_code for _ in range(6)]
        assert statuses[:2] == [200, 200]
        assert 429 in statuses
        refused = client.get(PATH, headers=bearer(slow))
        assert refused.json()["type"] == "/docs/errors/too-many-requests"
        assert int(refused.headers["retry-after"]) >= 1
        assert {client.get(PATH, headers=bearer(quick)).status_code for _ in range(6)} == {200}
        time.sleep(1.1)
        assert client.get(PATH, headers=bearer(slow)).status_code == 200


@pytest.mark.parametrize("content", ["{", "[]", '{"keys": [{}]}', '{"keys": [], "more": 1}', "\x00"])
def test_a_damaged_file_prevents_the_start(store: Path, tmp_path: Path, content: str):
    (tmp_path / "keys.json").write_text(content)
    with pytest.raises(ConfigError, match=r"keys\.json") as refused:
        serve(ServiceConfig(keys=str(tmp_path / "keys.json")), store)
    assert refused.value.field == "service.keys"


def test_listening_on_other_addresses_needs_a_key(store: Path, tmp_path: Path):
    file = tmp_path / "keys.json"
    key, _ = create_key(file, "a", "read")
    options = ("--host", "0.0.0.0", "--keys", file, "--workers", "2", "--log", "json")
    with serving("--store", store, *options) as (url, process):
        address = url.replace("0.0.0.0", "127.0.0.1")
        with httpx.Client(base_url=address, timeout=30) as client:
            assert client.get("/v1/runs").status_code == 401
            for _ in range(10):
                assert client.get("/v1/runs", headers={**bearer(key), "Connection": "close"}).status_code == 200
            metrics = client.get("/metrics", headers=bearer(key)).text
            assert 'route="/v1/runs",status="200"} 10.0' in metrics  # of both workers
        process.terminate()
        assert process.stderr is not None
        log = process.stderr.read()
        assert process.wait(20) == 0
    events = [json.loads(line) for line in log.splitlines() if line.startswith("{")]
    requests = [event for event in events if event["event"] == "request"]
    assert len(requests) >= 12
    assert {event.get("key") for event in requests} == {None, key[4:12]}
    assert key not in log
    assert "Traceback" not in log


def test_commands_create_list_and_revoke_keys(tmp_path: Path):
    file, run = tmp_path / "keys.json", CliRunner().invoke
    created = json.loads(
        run(cli, ["keys", "create", "--name", "a [b]", "--scope", "admin", "--keys", str(file), "--json"]).stdout
    )
    assert KeyRing(file).check(f"Bearer {created['key']}", "").scope == "admin"
    plain = run(cli, ["keys", "create", "--name", "b", "--keys", str(file)]).stdout.strip()
    assert KeyRing(file).check("", plain).scope == "read"
    keys = json.loads(run(cli, ["keys", "list", "--keys", str(file), "--json"]).stdout)["items"]
    assert [key["name"] for key in keys] == ["a [b]", "b"]
    assert created["key"] not in json.dumps(keys)
    assert "a [b]" in run(cli, ["keys", "list", "--keys", str(file)]).stdout
    assert run(cli, ["keys", "revoke", created["id"], "--keys", str(file)]).exit_code == 0
    assert [key.name for key in read_keys(file)] == ["b"]
    for wrong in (["revoke", "zzz"], ["create", "--name", "c", "--scope", "root"]):
        assert run(cli, ["keys", *wrong, "--keys", str(file)]).exit_code == 1
