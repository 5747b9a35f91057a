"""Manifests for Kubernetes, checked against the schemas of its API and of KubeRay's without a cluster.

Everything that a schema does not name is refused, kinds without a schema as well: a misspelt key or kind fails.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from referencing import Registry, Resource

RAYJOB = Path(__file__).parents[1] / "deploy" / "schemas" / "rayjob.json"

Manifest = dict[str, Any]


class _UniqueKeys(yaml.SafeLoader):
    """Refuses a mapping that has a key twice, of which YAML libraries silently keep one."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=deep) for key, _ in node.value]
        if len(keys) != len(set(keys)):
            raise yaml.constructor.ConstructorError(None, None, f"a key is there twice: {keys}", node.start_mark)
        return super().construct_mapping(node, deep)


def manifests(text: str) -> list[Manifest]:
    """The documents of a YAML text."""
    return [document for document in yaml.load_all(text, _UniqueKeys) if document is not None]


@cache
def _definitions(version: str) -> Resource[Any]:
    """Kubernetes' own definitions, without room for other keys."""
    schemas = files("kubernetes_validate") / "kubernetes-json-schema" / f"v{version}.0-local-strict"
    return Resource.from_contents(json.loads((schemas / "_definitions.json").read_text(encoding="utf-8")))


@cache
def _validator(version: str, group_version: str, kind: str) -> jsonschema.Draft202012Validator | None:
    resource = _definitions(version)
    base = resource.id()
    registry = Registry().with_resource(base, resource)  # type: ignore[arg-type]
    if (group_version, kind) == ("ray.io/v1", "RayJob"):
        schema = json.loads(RAYJOB.read_text(encoding="utf-8"))
        schema["$id"] = base.replace("_definitions", "rayjob")  # type: ignore[union-attr]
        return jsonschema.Draft202012Validator(schema, registry=registry)
    group, _, version_of_group = group_version.rpartition("/")
    wanted = {"group": group, "version": version_of_group, "kind": kind}
    for name, definition in resource.contents["$defs"].items():
        if wanted in definition.get("x-kubernetes-group-version-kind", ()):
            return jsonschema.Draft202012Validator({"$ref": f"{base}#/$defs/{name}"}, registry=registry)
    return None


def check(manifest: Manifest, version: str) -> None:
    """Fail unless a version of Kubernetes, with KubeRay, knows the kind and accepts every key and type.

    Raises:
        AssertionError: it does not; the message names kind, path and reason.
    """
    kind, group_version = manifest.get("kind"), manifest.get("apiVersion")
    validator = _validator(version, str(group_version), str(kind))
    assert validator is not None, f"Kubernetes {version} has no kind {kind} of {group_version}"
    name = manifest.get("metadata", {}).get("name")
    assert isinstance(name, str), f"a {kind} has no name"
    error = jsonschema.exceptions.best_match(validator.iter_errors(manifest))
    assert error is None, f"{kind} {name}: {error.json_path}: {error.message}"


def rendered(directory: Path) -> list[Manifest]:
    """What `kubectl apply -k DIRECTORY` would send; skips without kubectl."""
    program = shutil.which("kubectl")
    if program is None:
        pytest.skip("no kubectl on this machine")
    done = subprocess.run([program, "kustomize", str(directory)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert not done.stderr, done.stderr  # deprecated keys of kustomize are warnings
    return manifests(done.stdout)


def pod_templates(manifest: Manifest) -> Iterator[Manifest]:
    """All pod templates of a manifest, whatever its kind."""
    for key, value in manifest.items():
        if key in ("template", "submitterPodTemplate"):
            yield value
        elif isinstance(value, dict):
            yield from pod_templates(value)
        elif isinstance(value, list):
            for item in value:
                if isinstance(item, dict):
                    yield from pod_templates(item)
