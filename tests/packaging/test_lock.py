"""Requirements and bills of materials of the images: those of pyproject.toml and constraints.txt, with hashes."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tools import lock

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
IMAGE = {**default_environment(), "python_version": "3.12", "python_full_version": "3.12.0", "sys_platform": "linux"}
"""Markers of the image."""


def pins(file: Path) -> dict[str, str]:
    """Pinned version by canonical name."""
    found = re.findall(r"^([A-Za-z0-9._-]+)==([^\s;\\]+)", file.read_text(encoding="utf-8"), re.M)
    return {canonicalize_name(name): version for name, version in found}


LOCKED = pins(lock.REQUIREMENTS) | pins(lock.TORCH_REQUIREMENTS)
OF_RAY = pins(lock.RAY_REQUIREMENTS)
REQUIREMENTS = (lock.REQUIREMENTS, lock.TORCH_REQUIREMENTS, lock.RAY_REQUIREMENTS)


def needed(requirement: Requirement, seen: set[str]) -> set[str]:
    """Names of a requirement and of all that it requires in the image, from the installed packages."""
    name = canonicalize_name(requirement.name)
    if requirement.marker and not requirement.marker.evaluate({**IMAGE, "extra": ""}):
        return seen
    key = f"{name}[{','.join(sorted(requirement.extras))}]"
    if key in seen:
        return seen
    seen.add(key)
    try:
        lines = PROJECT["dependencies"] if name == "tegakari" else requires(name) or []
    except PackageNotFoundError:  # torch with CUDA is not installed where torch without it is
        return seen
    if name == "tegakari":
        lines = [*lines, *(line for extra in requirement.extras for line in PROJECT["optional-dependencies"][extra])]
    for line in lines:
        inner = Requirement(line)
        extras = requirement.extras or {""}
        if not inner.marker or any(inner.marker.evaluate({**IMAGE, "extra": extra}) for extra in extras):
            needed(Requirement(f"{inner.name}[{','.join(inner.extras)}]" if inner.extras else inner.name), seen)
    return seen


@pytest.mark.parametrize(
    ("extras", "locked"), [(lock.EXTRAS, LOCKED), ((*lock.EXTRAS, *lock.RAY_EXTRAS), LOCKED | OF_RAY)]
)
def test_every_requirement_of_the_images_is_pinned(extras: tuple[str, ...], locked: dict[str, str]):
    names = {name.partition("[")[0] for name in needed(Requirement(f"tegakari[{','.join(extras)}]"), set())}
    missing = names - {"tegakari"} - locked.keys()
    assert not missing, "run `make lock`"
    assert len(names) > 60


def test_the_image_for_ray_has_ray_and_its_dashboard_in_addition():
    assert not OF_RAY.keys() & LOCKED.keys()
    assert {"ray", "aiohttp", "opencensus"} <= OF_RAY.keys()
    assert OF_RAY["ray"] == pins(ROOT / "constraints.txt")["ray"]


def test_the_versions_are_those_of_constraints_and_within_the_bounds():
    constraints = pins(ROOT / "constraints.txt")
    # torch with CUDA needs another triton than the tests have beside torch without it.
    differing = {name for name, version in (LOCKED | OF_RAY).items() if constraints.get(name, version) != version} - {
        "triton"
    }
    assert not differing, "run `make lock`"
    for extra in (*lock.EXTRAS, *lock.RAY_EXTRAS, "store", "index", "ray"):
        for line in PROJECT["optional-dependencies"][extra]:
            requirement = Requirement(line)
            if requirement.name != "tegakari":
                assert requirement.specifier.contains((LOCKED | OF_RAY)[canonicalize_name(requirement.name)]), line


def test_every_version_has_hashes():
    for file in REQUIREMENTS:
        entries = lock._entries(file.read_text(encoding="utf-8"))
        entries = {name: entry for name, entry in entries.items() if not name.startswith("#")}
        assert len(entries) == len(pins(file))
        for name, entry in entries.items():
            assert re.search(r"--hash=sha256:[0-9a-f]{64}", entry), name
            assert bool(lock.OF_TORCH.fullmatch(name)) == (file == lock.TORCH_REQUIREMENTS), name


def test_pip_accepts_the_files_and_refuses_another_hash(tmp_path: Path):
    """Of one small package: pip reads the whole file before it looks for anything."""
    text = lock.REQUIREMENTS.read_text(encoding="utf-8")
    entry = lock._entries(text)["sniffio"]
    wrong = re.sub("sha256:[0-9a-f]{64}", f"sha256:{'0' * 64}", entry)
    package = tmp_path / "sniffio-1.3.1-py3-none-any.whl"
    package.write_bytes(b"PK\x05\x06" + bytes(18))  # an empty archive
    (tmp_path / "wrong.txt").write_text(wrong)
    command = [sys.executable, "-m", "pip", "download", "--no-index", "--find-links", str(tmp_path), "--no-deps"]
    for file in (tmp_path / "wrong.txt", tmp_path / "right.txt"):
        (tmp_path / "right.txt").write_text(entry)
        done = subprocess.run(
            [*command, "--require-hashes", "-r", str(file), "-d", str(tmp_path / "target")],
            capture_output=True,
            text=True,
            check=False,
            cwd=tmp_path,
        )
        assert done.returncode != 0
        assert "DO NOT MATCH THE HASHES" in done.stderr, done.stderr


@pytest.mark.parametrize(("file", "locked"), [(lock.BILL, LOCKED), (lock.RAY_BILL, OF_RAY)])
def test_the_bill_of_materials_lists_the_same_versions(file: Path, locked: dict[str, str]):
    bill = json.loads(file.read_text(encoding="utf-8"))
    assert bill["bomFormat"] == "CycloneDX"
    listed = {canonicalize_name(component["name"]): component["version"] for component in bill["components"]}
    assert listed == locked
    assert {component["purl"] for component in bill["components"]} == {
        f"pkg:pypi/{name}@{version}" for name, version in locked.items()
    }


@pytest.mark.parametrize("file", [*REQUIREMENTS, lock.BILL, lock.RAY_BILL])
def test_no_file_names_an_index(file: Path):
    hosts = set(re.findall(r"https?://([\w.-]+)", file.read_text(encoding="utf-8")))
    assert hosts <= {"cyclonedx.org"}


def test_the_documented_version_of_torch_is_the_pinned_one():
    page = (ROOT / "docs" / "deploy.md").read_text(encoding="utf-8")
    assert f'TORCH_ARGUMENTS="torch=={pins(ROOT / "constraints.txt")["torch"]} ' in page
    assert "torch.txt" in (ROOT / "deploy" / "Containerfile").read_text(encoding="utf-8")
