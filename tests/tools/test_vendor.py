"""Vendored files are taken from the archive of a package, and only if the archive is what the manifest records."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import msgspec
import pytest

from tools.vendor import MANIFEST, File, Package, faults, read_manifest, unpack

PACKAGE = Package(
    name="viewer",
    version="",
    licence="",
    licence_files=("static/LICENSE.txt",),
    files=(
        File(path="static/viewer.js", package_path="dist/viewer.js", sha256=""),
        File(path="static/LICENSE.txt", package_path="LICENSE", sha256=""),
    ),
)
CONTENTS = {"package.json": b'{"name": "viewer", "license": "MIT"}', "dist/viewer.js": b"view()", "LICENSE": b"as is"}


def archive_of(contents: dict[str, bytes], path: Path) -> Path:
    with tarfile.open(path, "w:gz") as members:
        for name, content in contents.items():
            member = tarfile.TarInfo(f"package/{name}")
            member.size = len(content)
            members.addfile(member, io.BytesIO(content))
    return path


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    return archive_of(CONTENTS, tmp_path / "viewer.tgz")


def test_a_version_is_unpacked_and_recorded(archive: Path, tmp_path: Path):
    record = unpack(archive, PACKAGE, "1.0.0", tmp_path)
    assert (tmp_path / "static/viewer.js").read_bytes() == b"view()"
    assert (record.version, record.licence) == ("1.0.0", "MIT")
    assert faults(record, tmp_path) == []
    assert unpack(archive, record, "1.0.0", tmp_path) == record
    assert msgspec.json.decode(msgspec.json.encode(record), type=Package) == record


def test_changed_and_missing_files_are_faults(archive: Path, tmp_path: Path):
    record = unpack(archive, PACKAGE, "1.0.0", tmp_path)
    (tmp_path / "static/viewer.js").write_bytes(b"view();")
    (tmp_path / "static/LICENSE.txt").unlink()
    assert faults(record, tmp_path) == [
        "static/viewer.js is not the file of viewer 1.0.0",
        "static/LICENSE.txt is missing",
    ]


@pytest.mark.parametrize("licence_files", [(), ("static/COPYING.txt",)])
def test_a_package_without_its_licence_is_a_fault(archive: Path, tmp_path: Path, licence_files: tuple[str, ...]):
    record = unpack(archive, PACKAGE, "1.0.0", tmp_path)
    (fault,) = faults(msgspec.structs.replace(record, licence_files=licence_files), tmp_path)
    assert "licence_files" in fault


def test_a_version_that_has_changed_is_refused(archive: Path, tmp_path: Path):
    record = unpack(archive, PACKAGE, "1.0.0", tmp_path)
    changed = archive_of({**CONTENTS, "dist/viewer.js": b"steal()"}, tmp_path / "changed.tgz")
    with pytest.raises(SystemExit, match=r"viewer 1\.0\.0 on npm is not"):
        unpack(changed, record, "1.0.0", tmp_path)
    assert (tmp_path / "static/viewer.js").read_bytes() == b"view()"
    assert unpack(changed, record, "1.0.1", tmp_path) != record


def test_a_file_that_the_package_lacks_is_named(tmp_path: Path):
    lacking = archive_of({name: CONTENTS[name] for name in ("package.json", "LICENSE")}, tmp_path / "lacking.tgz")
    with pytest.raises(SystemExit, match=r"dist/viewer\.js"):
        unpack(lacking, PACKAGE, "1.0.0", tmp_path)
    assert not (tmp_path / "static").exists()


def test_the_manifest_lists_the_viewer_of_the_api():
    packages = {package.name: package for package in read_manifest()}
    assert packages["rapidoc"].licence == "MIT"
    assert msgspec.json.format(MANIFEST.read_bytes(), indent=2) + b"\n" == MANIFEST.read_bytes()
