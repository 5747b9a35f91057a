"""The pod of the service, run with its user, its volumes and a read-only root file system, over a real S3 server."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

import httpx
import pytest

pytest.importorskip("obstore", reason="pip install -c constraints.txt -e '.[test]'")

from tegakari.service.admission.keys import create_key
from tegakari.store.objects.bucket import Bucket
from tegakari.store.objects.push import push_run
from tests.support.factories import make_run
from tests.support.kubernetes import pod_templates, rendered
from tests.support.object_storage import environment, make_bucket
from tests.support.pods import pod_command
from tests.support.soak_length import only_in_a_soak

pytestmark = only_in_a_soak

TREE = Path(__file__).parents[2] / "deploy" / "kubernetes"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_the_pod_serves_a_bucket(s3_endpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for name, value in environment(s3_endpoint).items():
        monkeypatch.setenv(name, value)
    make_bucket(s3_endpoint, "our-bucket")
    make_run(tmp_path / "store", "drawn")
    push_run(Bucket("s3://our-bucket/tegakari"), tmp_path / "store", "drawn")
    (deployment,) = [manifest for manifest in rendered(TREE / "serve") if manifest["kind"] == "Deployment"]
    (template,) = pod_templates(deployment)
    (container,) = template["spec"]["containers"]
    configuration, keys = tmp_path / "configuration", tmp_path / "keys"
    configuration.mkdir()
    shutil.copy(TREE / "serve" / "tegakari.toml", configuration)
    key, _ = create_key(keys / "keys.json", name="probe", scope="compute")
    for path in (keys, keys / "keys.json"):  # as a volume of a Secret with defaultMode 0440 and fsGroup
        os.chown(path, 0, 10001)
        path.chmod(0o440 if path.is_file() else 0o750)
    port = free_port()
    variables = {**environment(s3_endpoint), "TEGAKARI_PORT": str(port)}
    root = tmp_path / "root"
    root.mkdir()
    tmp_path.chmod(0o755)
    command = pod_command(root, template["spec"], container, {"configuration": configuration, "keys": keys}, variables)
    log = (tmp_path / "log").open("w+")
    with subprocess.Popen(command, stderr=log, stdout=log, text=True) as process:
        try:
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", headers={"X-API-Key": key}, timeout=60) as client:
                deadline = time.monotonic() + 120
                while True:
                    assert process.poll() is None, (tmp_path / "log").read_text()
                    assert time.monotonic() < deadline, (tmp_path / "log").read_text()
                    try:
                        if client.get(container["readinessProbe"]["httpGet"]["path"]).status_code == 200:
                            break
                    except httpx.TransportError:
                        time.sleep(0.2)
                while client.get("/v1/runs/drawn/labels").status_code == 503:
                    assert time.monotonic() < deadline, (tmp_path / "log").read_text()
                    time.sleep(0.2)
                assert [entry["state"] for entry in client.get("/v1/runs").json()["items"]] == ["ready"]
                requests = ("features?layer=0", "layers/0/features/1", "documents?limit=1", "sparsity")
                for path in requests:
                    response = client.get(f"/v1/runs/drawn/{path}")
                    assert response.status_code == 200, response.text
                result = client.post("/v1/sql", json={"sql": "SELECT run, label FROM labels", "limit": 1})
                assert result.status_code == 200, result.text
                owner = Path(f"/proc/{process.pid}/status").read_text(encoding="utf-8")
                assert "Uid:\t10001\t10001\t10001\t10001" in owner
                assert "CapEff:\t0000000000000000" in owner
                assert "NoNewPrivs:\t1" in owner
                mounts = Path(f"/proc/{process.pid}/mounts").read_text(encoding="utf-8").splitlines()
                assert [mount.split()[3].split(",")[0] for mount in mounts if mount.split()[1] == "/"][-1] == "ro"
        finally:
            process.send_signal(signal.SIGTERM)
            status = process.wait(30)
    lines = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines() if line.startswith("{")]
    assert status == 0
    assert any(line["event"] == "run pulled" for line in lines)
    assert {line["level"] for line in lines} == {"info"}, lines
