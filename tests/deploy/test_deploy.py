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


Instructions = list[tuple[str, str]]
"""(instruction, arguments)"""


def stages() -> dict[str, Instructions]:
    """Stage -> its instructions, continued lines joined."""
    lines = "\n".join(line for line in CONTAINERFILE.splitlines() if not line.lstrip().startswith("#"))
    stages: dict[str, Instructions] = {}
    for line in lines.replace("\\\n", " ").splitlines():
        if line.strip():
            name, rest = line.split(maxsplit=1)
            if name == "FROM":
                stages[rest.split(" AS ")[1]] = []
            stages[[*stages][-1]].append((name, rest))
    return stages


def image(target: str) -> Instructions:
    """Instructions of a target, those of the stages that it begins with first."""
    ((_, source), *rest) = stages()[target]
    base = source.split(" AS ")[0]
    return [*(image(base) if base in stages() else [("FROM", base)]), *rest]


def test_files_that_the_images_copy_exist_and_are_not_ignored():
    patterns = (DEPLOY / "Containerfile.dockerignore").read_text(encoding="utf-8").splitlines()
    copies = [rest.split() for stage in stages().values() for name, rest in stage if name == "COPY"]
    sources = [source for words in copies if not words[0].startswith("--from") for source in words[:-1]]
    assert len(sources) > 8
    for source in sources:
        assert (ROOT / source).exists(), source
        assert f"!{source}" in patterns, source
    assert {words[0].removeprefix("--from=") for words in copies if words[0].startswith("--from")} <= stages().keys()
    installed = {file for _, rest in image("build-index") for file in re.findall(r"-r (\S+\.txt)", rest)}
    assert {f"deploy/{file}" for file in installed} <= set(sources)


def test_the_image_of_the_service_runs_an_existing_command():
    values = dict(image("serve"))
    assert [*stages()][-1] == "serve", "the last stage is what is built without --target"
    assert json.loads(values["ENTRYPOINT"]) == ["tegakari"]
    check_command(json.loads(values["CMD"]))
    config = load_config(DEPLOY / "tegakari.toml")
    assert int(values["EXPOSE"]) == config.service.port
    assert f":{config.service.port}/readyz" in values["HEALTHCHECK"]
    assert config.index.store in json.loads(values["VOLUME"])


def test_the_image_of_indexing_has_what_kuberay_runs():
    values = dict(image("index"))
    check_command(json.loads(values["CMD"]))
    packages = [rest for name, rest in image("index") if name == "RUN" and "apt-get install" in rest]
    assert any("wget" in rest for rest in packages), "KubeRay's probes"
    assert "ln -s /opt/tegakari/bin/ray " in values["RUN"], "a login shell sets PATH anew"
    assert values["COPY"].startswith("--from=build-index ")


@pytest.mark.parametrize("target", ["serve", "index"])
def test_images_are_of_one_version_of_python_and_not_root(target: str):
    instructions = image(target)
    assert instructions[0] == ("FROM", "python:3.12-slim-bookworm") == image("build")[0]
    users = [rest for name, rest in instructions if name == "USER"]
    assert users == ["10001"]
    assert any(f"useradd --uid {users[0]}" in rest for name, rest in instructions if name == "RUN")
    assert instructions.index(("USER", "10001")) > max(i for i, (name, _) in enumerate(instructions) if name == "RUN")
    (caches,) = [rest for name, rest in instructions if name == "ENV"]
    assert re.findall(r"_CACHE_DIR=(\S+)", caches) == ["/tmp/numba", "/tmp/triton"], "the root file system is read-only"


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
