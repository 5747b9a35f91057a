"""docs/kubernetes.md and the rights in docs/object-storage.md: what they name exists, and the examples are accepted."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import pytest

pytest.importorskip("kubernetes_validate", reason="pip install -c constraints.txt -e '.[test]'")

from tests.support.commands import check_command
from tests.support.kubernetes import check, rendered

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "kubernetes.md").read_text(encoding="utf-8")
TREE = ROOT / "deploy" / "kubernetes"


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", page, re.DOTALL)


def commands(page: str) -> list[list[str]]:
    return [shlex.split(line, comments=True) for block in blocks(page, "sh") for line in block.splitlines() if line]


def test_the_example_of_an_overlay_is_accepted(tmp_path: Path):
    (example,) = blocks(PAGE, "yaml")
    shutil.copytree(TREE, tmp_path / "tree")
    (tmp_path / "tree" / "own").mkdir()
    (tmp_path / "tree" / "own" / "kustomization.yaml").write_text(example)
    deployment = rendered(tmp_path / "tree" / "own")
    (job,) = [manifest for manifest in deployment if manifest["kind"] == "RayJob"]
    for manifest in deployment:
        check(manifest, "1.37")
    (group,) = job["spec"]["rayClusterSpec"]["workerGroupSpecs"]
    (container,) = group["template"]["spec"]["containers"]
    assert container["image"].startswith("registry.example.org/tegakari-index:")
    assert container["resources"]["limits"]["memory"] == container["resources"]["requests"]["memory"] == "64Gi"
    assert job["spec"]["entrypoint"].endswith(" --only shards")


def test_commands_name_what_exists():
    applied, secrets = set(), {}
    for words in commands(PAGE):
        match words:
            case ["kubectl", "apply", "-k", directory]:
                assert (ROOT / directory / "kustomization.yaml").is_file()
                applied.add(Path(directory).name)
            case ["kubectl", "-n", "tegakari", "create", "secret", kind, name, *values]:
                secrets[name] = " ".join([kind, *values])
            case ["kubectl", "-n", "tegakari", "wait", "rayjob/tegakari-index", *_]:
                pass
            case ["tegakari", *rest]:
                check_command(rest)
            case _:
                pytest.fail(f"unknown command: {words}")
    assert applied == {"setup", "index", "publish", "example"}
    assert secrets.keys() == {"tegakari-ray", "tegakari-keys", "tegakari-tls"}
    assert "--from-literal=auth_token=" in secrets["tegakari-ray"], "the key that KubeRay reads"
    assert "--from-file=keys.json" in secrets["tegakari-keys"], "the name of the file that is mounted"


def test_the_tables_have_every_directory_and_option():
    section = PAGE.split("## Directories")[1].split("## Values")[0]
    named = set(re.findall(r"^\| `([\w-]+)` \|", section, re.MULTILINE))
    directories = {directory.name for directory in TREE.iterdir() if directory.name != "options"}
    assert named == directories | {directory.name for directory in (TREE / "options").iterdir()}
    for file in re.findall(r"`((?:\w|-)+/[\w./-]+\.(?:yaml|toml))`", PAGE):
        assert (TREE / file).is_file(), file


def test_the_files_for_a_bucket_are_documented():
    page = (ROOT / "docs" / "object-storage.md").read_text(encoding="utf-8")
    used = set(re.findall(r"file://(\S+)", page))
    assert len(used) == 5
    for file in used:
        assert (ROOT / file).is_file(), file
    for file in (ROOT / "deploy" / "s3").iterdir():
        assert f"`{file.name}`" in page, file.name
