"""deploy/kubernetes: rendered by kustomize, checked against real schemas, and against the program that it deploys."""

from __future__ import annotations

import copy
import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from litestar.testing import TestClient

pytest.importorskip("kubernetes_validate", reason="pip install -c constraints.txt -e '.[test]'")

from tegakari.schemas.config import load_config
from tegakari.service.app import create_app
from tegakari.store.objects.bucket import is_bucket
from tests.support.commands import check_command
from tests.support.kubernetes import Manifest, check, manifests, pod_templates, rendered

ROOT = Path(__file__).parents[2]
TREE = ROOT / "deploy" / "kubernetes"
OLDEST, NEWEST = "1.30", "1.37"
"""Versions of Kubernetes whose schemas are compared; docs/kubernetes.md names the oldest."""

APPLIED = ("setup", "index", "merge", "publish", "serve", "example")
OPTIONS = {
    "index": (["shards-only"],),
    "serve": (["ingress"], ["models", "gpu"], ["shared-store", "gpu", "ingress"], ["models", "ingress"]),
}
"""Directory -> the options that it is rendered with, beside none."""

MADE_BY_HAND = {"tegakari-ray": "auth_token", "tegakari-keys": "keys.json", "tegakari-tls": ""}
"""Secrets that docs/kubernetes.md creates -> the key that they must have."""


@pytest.fixture(scope="module")
def deployments(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Manifest]]:
    """What is applied, by directory and options."""
    tree = tmp_path_factory.mktemp("kubernetes") / "tree"
    shutil.copytree(TREE, tree)
    deployments = {name: rendered(tree / name) for name in APPLIED}
    for base, variants in OPTIONS.items():
        for options in variants:
            name = "+".join([base, *options])
            directory = tree / name
            directory.mkdir()
            components = "".join(f"  - ../options/{option}\n" for option in options)
            text = f"kind: Kustomization\nresources:\n  - ../{base}\ncomponents:\n{components}"
            (directory / "kustomization.yaml").write_text(text)
            deployments[name] = rendered(directory)
    return deployments


def of_kind(deployment: list[Manifest], kind: str) -> list[Manifest]:
    return [manifest for manifest in deployment if manifest["kind"] == kind]


def containers(manifest: Manifest) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """(spec of the pod, container)."""
    specs = [template["spec"] for template in pod_templates(manifest)]
    return [(spec, container) for spec in specs for container in [*spec["containers"], *spec.get("initContainers", [])]]


def commands(manifest: Manifest) -> list[list[str]]:
    """Words of the commands of tegakari that a manifest runs."""
    words = [container["args"] for _, container in containers(manifest) if "args" in container]
    if manifest["kind"] == "RayJob":
        program, *entrypoint = shlex.split(manifest["spec"]["entrypoint"])
        assert program == "tegakari"
        words.append(entrypoint)
    return words


@pytest.mark.parametrize("file", sorted(TREE.rglob("*.yaml")), ids=lambda file: str(file.relative_to(TREE)))
def test_every_file_is_valid_by_itself(file: Path):
    """Without kubectl: kustomize copies what it does not patch."""
    for manifest in manifests(file.read_text(encoding="utf-8")):
        if file.name != "kustomization.yaml":
            check(manifest, NEWEST)
    assert file.name == "kustomization.yaml" or re.search(
        rf"^  - {re.escape(file.name)}$", (file.parent / "kustomization.yaml").read_text(encoding="utf-8"), re.MULTILINE
    ), "no kustomization names the file"


@pytest.mark.parametrize("version", [OLDEST, NEWEST])
def test_kubernetes_accepts_what_is_applied(deployments: dict[str, list[Manifest]], version: str):
    for deployment in deployments.values():
        assert deployment
        for manifest in deployment:
            check(manifest, version)
            assert manifest["kind"] == "Namespace" or manifest["metadata"]["namespace"] == "tegakari"


def set_in(path: str, value: Any) -> Callable[[Any], None]:
    """A change of one value; `.`-separated keys and positions."""

    def change(manifest: Any) -> None:
        *parents, last = [int(key) if key.isdigit() else key for key in path.split(".")]
        for key in parents:
            manifest = manifest[key]
        if value is None:
            del manifest[last]
        else:
            manifest[last] = value

    return change


POD = "spec.template.spec"
HEAD = "spec.rayClusterSpec.headGroupSpec"


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        ("serve/deployment", set_in("kind", "Deploymnet"), "has no kind Deploymnet of apps/v1"),
        ("serve/deployment", set_in("apiVersion", "apps/v2"), "has no kind Deployment of apps/v2"),
        ("serve/deployment", set_in(f"{POD}.containers.0.readynessProbe", {}), "'readynessProbe' was unexpected"),
        ("serve/deployment", set_in(f"{POD}.securityContext.runAsUser", "root"), "'root' is not of type 'integer'"),
        ("serve/deployment", set_in(f"{POD}.containers.0.name", None), "'name' is a required property"),
        ("serve/deployment", set_in("metadata.name", None), "a Deployment has no name"),
        ("serve/autoscaler", set_in("apiVersion", "autoscaling/v2beta2"), "has no kind HorizontalPodAutoscaler"),
        ("serve/network-policy", set_in("spec.ingress.0.form", []), "'form' was unexpected"),
        ("index/rayjob", set_in("apiVersion", "ray.io/v1alpha1"), "has no kind RayJob of ray.io/v1alpha1"),
        ("index/rayjob", set_in("spec.entryPoint", "tegakari"), "'entryPoint' was unexpected"),
        ("index/rayjob", set_in("spec.backoffLimit", "two"), "'two' is not of type 'integer'"),
        ("index/rayjob", set_in(HEAD, None), "'headGroupSpec' is a required property"),
        ("index/rayjob", set_in(f"{HEAD}.rayStartParams.num-gpus", 0), "0 is not of type 'string'"),
        ("index/rayjob", set_in(f"{HEAD}.template.spec.containers.0.imagePullSecret", "x"), "was unexpected"),
        ("index/rayjob", set_in("spec.rayClusterSpec.workerGroupSpecs.0.groupName", None), "'groupName' is a required"),
        ("index/rayjob", set_in("spec.rayClusterSpec.authOptions.mode", "tokens"), "'tokens' is not one of"),
    ],
)
def test_a_mistake_is_found(file: str, change: Callable[[Any], None], message: str):
    (manifest,) = manifests((TREE / f"{file}.yaml").read_text(encoding="utf-8"))
    check(manifest, NEWEST)
    mistaken = copy.deepcopy(manifest)
    change(mistaken)
    with pytest.raises(AssertionError, match=re.escape(message)):
        check(mistaken, NEWEST)


def test_a_key_that_is_there_twice_is_found():
    with pytest.raises(Exception, match="a key is there twice"):
        manifests("kind: Service\nspec: {}\nspec: {}\n")


def test_pods_have_few_rights_and_bounds(deployments: dict[str, list[Manifest]]):
    """What the profile `restricted` of the namespace demands, and more."""
    pods = 0
    for deployment in deployments.values():
        for manifest in deployment:
            for spec, container in containers(manifest):
                pods += 1
                assert spec["automountServiceAccountToken"] is False
                assert spec["enableServiceLinks"] is False, "the Service `tegakari` would set TEGAKARI_PORT"
                assert spec["securityContext"]["runAsNonRoot"] is True
                assert spec["securityContext"]["runAsUser"] == 10001, "the user of the image"
                assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
                assert container["securityContext"] == {
                    "allowPrivilegeEscalation": False,
                    "readOnlyRootFilesystem": True,
                    "capabilities": {"drop": ["ALL"]},
                }
                resources = container["resources"]
                assert {"cpu", "memory"} <= resources["requests"].keys()
                assert resources["limits"]["memory"] == resources["requests"]["memory"]
                tolerated = any(toleration["key"] == "nvidia.com/gpu" for toleration in spec.get("tolerations", ()))
                assert tolerated == ("nvidia.com/gpu" in resources["limits"])
                for volume in spec["volumes"]:
                    assert set(volume) - {"name"} <= {"emptyDir", "configMap", "secret", "persistentVolumeClaim"}
                    assert "emptyDir" not in volume or volume["emptyDir"]["sizeLimit"]
            if manifest["kind"] == "ServiceAccount":
                assert manifest["automountServiceAccountToken"] is False
    assert pods > 10


def test_what_pods_mount_exists(deployments: dict[str, list[Manifest]]):
    """Volumes, claims, configurations, secrets, accounts; those of `index` and `setup` are there before the rest."""
    before = [*deployments["index"], *deployments["setup"]]
    for title, deployment in deployments.items():
        names = {(manifest["kind"], manifest["metadata"]["name"]) for manifest in [*deployment, *before]}
        for manifest in deployment:
            for spec, container in containers(manifest):
                assert ("ServiceAccount", spec["serviceAccountName"]) in names, title
                assert {mount["name"] for mount in container["volumeMounts"]} == {
                    volume["name"] for volume in spec["volumes"]
                }
                paths = [mount["mountPath"] for mount in container["volumeMounts"]]
                assert len(paths) == len(set(paths))
                for volume in spec["volumes"]:
                    match volume:
                        case {"persistentVolumeClaim": {"claimName": name}}:
                            assert ("PersistentVolumeClaim", name) in names, title
                        case {"configMap": {"name": name}}:
                            assert ("ConfigMap", name) in names, title
                        case {"secret": {"secretName": name}}:
                            assert name in MADE_BY_HAND


def test_selectors_and_targets_exist(deployments: dict[str, list[Manifest]]):
    for deployment in deployments.values():
        names = {(manifest["kind"], manifest["metadata"]["name"]) for manifest in deployment}
        labels = [template["metadata"]["labels"] for manifest in deployment for template in pod_templates(manifest)]
        for manifest in deployment:
            match manifest:
                case {"kind": "HorizontalPodAutoscaler", "spec": {"scaleTargetRef": {"kind": kind, "name": name}}}:
                    assert (kind, name) in names
                case {
                    "kind": "Ingress",
                    "spec": {"rules": [{"http": {"paths": [{"backend": backend}]}}], "tls": [tls]},
                }:
                    assert ("Service", backend["service"]["name"]) in names
                    assert tls["secretName"] in MADE_BY_HAND
                case {"kind": "Service", "spec": {"selector": selector, "ports": [port]}}:
                    assert selector in labels
                    assert port["targetPort"] == "http"
                case {"kind": "PodDisruptionBudget" | "Deployment", "spec": {"selector": {"matchLabels": selector}}}:
                    assert selector in labels
                case {"kind": "NetworkPolicy", "spec": spec}:
                    assert spec["podSelector"]["matchLabels"] in labels
                    assert spec["policyTypes"] == ["Ingress", "Egress"]
                case {"kind": "RayJob", "spec": {"rayClusterSpec": {"authOptions": options}}}:
                    assert options["mode"] == "token"
                    assert options["secretName"] in MADE_BY_HAND
                case {"kind": kind}:
                    assert kind in {"Namespace", "PersistentVolumeClaim", "ConfigMap", "ServiceAccount", "Job"}


def test_the_commands_exist(deployments: dict[str, list[Manifest]]):
    seen = {
        tuple(words) for deployment in deployments.values() for manifest in deployment for words in commands(manifest)
    }
    assert {words[0] for words in seen} == {"index", "runs", "serve"}
    for words in seen:
        check_command(list(words))
        assert not {"&&", ";", "|"} & set(words), "the submitter's shell would run what follows"


def test_the_configurations_are_valid(deployments: dict[str, list[Manifest]], tmp_path: Path):
    seen = 0
    for deployment in deployments.values():
        for manifest in of_kind(deployment, "ConfigMap"):
            (name,) = manifest["data"]
            file = tmp_path / name
            file.write_text(manifest["data"][name])
            config = load_config(file)
            seen += 1
            if manifest["metadata"]["name"].startswith("tegakari-serve"):
                assert config.service.host == "0.0.0.0"
                assert config.service.keys == "/run/secrets/tegakari/keys.json"
                hosts = [
                    rule["host"] for ingress in of_kind(deployment, "Ingress") for rule in ingress["spec"]["rules"]
                ]
                for service in of_kind(deployment, "Service"):
                    hosts += [service["metadata"]["name"], f"{service['metadata']['name']}.tegakari.svc"]
                assert set(hosts) <= set(config.service.hosts)
            else:
                paths = (config.corpus.path, config.classifier.path, config.saes.path, config.index.store)
                assert all(path.startswith("/shared/") for path in paths), "workers see the shared volume only"
    assert seen >= 7


def test_the_store_is_a_bucket_or_the_shared_volume(deployments: dict[str, list[Manifest]]):
    for title, deployment in deployments.items():
        for manifest in of_kind(deployment, "Deployment"):
            ((_, container),) = containers(manifest)
            environment = {variable["name"]: variable["value"] for variable in container["env"]}
            assert is_bucket(environment["TEGAKARI_STORE"])
            assert environment["AWS_REGION"]
            args = container["args"]
            assert ("--cache" in args) != ("/shared/store" in args)
            assert ("/shared/store" in args) == ("shared-store" in title)


def test_the_workers_are_those_of_the_cluster(deployments: dict[str, list[Manifest]]):
    for title in ("index", "index+shards-only"):
        (job,) = of_kind(deployments[title], "RayJob")
        words = shlex.split(job["spec"]["entrypoint"])
        assert words[words.index("--ray") + 1] == "auto"
        (group,) = job["spec"]["rayClusterSpec"]["workerGroupSpecs"]
        (container,) = group["template"]["spec"]["containers"]
        per_worker = int(words[words.index("--gpus-per-worker") + 1])
        assert (
            container["resources"]["limits"]["nvidia.com/gpu"] == per_worker == int(group["rayStartParams"]["num-gpus"])
        )
        assert int(words[words.index("--workers") + 1]) == group["replicas"] == group["minReplicas"]
        assert ("--only" in words) == (title != "index")
        assert job["spec"]["rayClusterSpec"]["headGroupSpec"]["rayStartParams"]["num-gpus"] == "0"
        assert job["spec"]["rayClusterSpec"]["rayVersion"] == version_of("ray")


def version_of(package: str) -> str:
    pins = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    return re.search(rf"^{re.escape(package)}==(\S+)", pins, re.MULTILINE)[1]  # type: ignore[index]


def test_probes_ask_what_the_service_answers(deployments: dict[str, list[Manifest]], tmp_path: Path):
    """As the kubelet asks: without a key, by the address of the pod."""
    (deployment,) = of_kind(deployments["serve"], "Deployment")
    ((_, container),) = containers(deployment)
    config = load_config(TREE / "serve" / "tegakari.toml").service
    assert container["ports"] == [{"name": "http", "containerPort": config.port}]
    (tmp_path / "keys.json").write_text('{"keys": []}')
    app = create_app(tmp_path / "store", config, keys=tmp_path / "keys.json")
    (tmp_path / "store").mkdir()
    with TestClient(app, base_url=f"http://10.42.3.17:{config.port}") as client:
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            assert container[probe]["httpGet"]["port"] == "http"
            assert client.get(container[probe]["httpGet"]["path"]).status_code == 200
        assert client.get("/v1/runs").status_code == 401
        assert client.get("/healthz", headers={"Host": "other.example.org"}).status_code == 400


def test_the_cache_fits_into_its_volume(deployments: dict[str, list[Manifest]]):
    (deployment,) = of_kind(deployments["serve"], "Deployment")
    ((spec, container),) = containers(deployment)
    args = container["args"]
    cached = float(args[args.index("--cache-gb") + 1]) * 1e9
    (cache,) = [volume for volume in spec["volumes"] if volume["name"] == "cache"]
    gib = {"volume": cache["emptyDir"]["sizeLimit"], "request": container["resources"]["requests"]["ephemeral-storage"]}
    volume, request = (float(gib[name].removesuffix("Gi")) * 2**30 for name in ("volume", "request"))
    assert cached * 1.1 <= volume <= request
    shared = of_kind(deployments["serve+shared-store+gpu+ingress"], "Deployment")[0]
    ((_, container),) = containers(shared)
    assert "--cache" not in container["args"]
    assert container["resources"]["limits"]["nvidia.com/gpu"] == 1


def test_the_example_replaces_what_a_user_must_replace(deployments: dict[str, list[Manifest]]):
    example, base = deployments["example"], deployments["serve"]
    account, plain = of_kind(example, "ServiceAccount")[0], of_kind(base, "ServiceAccount")[0]
    assert account["metadata"]["annotations"] != plain["metadata"]["annotations"]
    ((_, container),) = containers(of_kind(example, "Deployment")[0])
    assert container["image"] == f"registry.example.org/tegakari-serve:{tegakari_version()}"
    ((_, plain_container),) = containers(of_kind(base, "Deployment")[0])
    assert container["env"] != plain_container["env"]
    (ingress,) = of_kind(example, "Ingress")
    assert ingress["spec"]["rules"][0]["host"] == ingress["spec"]["tls"][0]["hosts"][0] == "features.example.org"


def tegakari_version() -> str:
    from tegakari.version import __version__

    return __version__
