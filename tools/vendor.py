"""Scripts of other projects, vendored as npm serves them: `python -m tools.vendor NAME@VERSION`.

`vendored.json` records version, licence and the SHA-256 of every file; `--check` compares the files with it, offline.
To vendor another package, add an entry with empty `version`, `licence` and `sha256`, and run the command.
"""

from __future__ import annotations

import argparse
import hashlib
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

import msgspec

from tools.generated import ROOT

MANIFEST = ROOT / "tools" / "vendored.json"


class File(msgspec.Struct, frozen=True):
    """A vendored file."""

    path: str
    """Path in this repository."""
    package_path: str
    """Path in the package."""
    sha256: str
    """Hash of the content, in hexadecimal digits."""


class Package(msgspec.Struct, frozen=True):
    """A package of npm."""

    name: str
    version: str
    licence: str
    """SPDX identifier, as the package gives it."""
    licence_files: tuple[str, ...]
    """Paths of the vendored files that hold the licences of the package and of what it bundles."""
    files: tuple[File, ...]


class PackageDescription(msgspec.Struct, frozen=True):
    """What a package says of itself in package.json."""

    license: str


def read_manifest() -> list[Package]:
    """The vendored packages."""
    return msgspec.json.decode(MANIFEST.read_bytes(), type=list[Package])


def write_manifest(packages: list[Package]) -> None:
    """Write what `read_manifest` reads."""
    MANIFEST.write_bytes(msgspec.json.format(msgspec.json.encode(packages), indent=2) + b"\n")


def faults(package: Package, root: Path) -> list[str]:
    """A sentence per file of a package that is missing or differs from its record; one if no licence is recorded."""
    sentences = []
    if not package.licence_files or not set(package.licence_files) <= {file.path for file in package.files}:
        sentences.append(f"{package.name}: licence_files names no file, or one that is not in files")
    for file in package.files:
        path = root / file.path
        if not path.exists():
            sentences.append(f"{file.path} is missing")
        elif _sha256(path.read_bytes()) != file.sha256:
            sentences.append(f"{file.path} is not the file of {package.name} {package.version}")
    return sentences


def unpack(archive: Path, package: Package, version: str, root: Path) -> Package:
    """Write the vendored files from the archive of a version.

    Returns:
        The record of that version.

    Raises:
        SystemExit: the archive lacks a file, or the version is the recorded one and its files are not.
    """
    contents = {}
    with tarfile.open(archive) as members:
        description = msgspec.json.decode(_content(members, "package.json"), type=PackageDescription)
        for file in package.files:
            contents[file.path] = _content(members, file.package_path)
    record = msgspec.structs.replace(
        package,
        version=version,
        licence=description.license,
        files=tuple(msgspec.structs.replace(file, sha256=_sha256(contents[file.path])) for file in package.files),
    )
    if version == package.version and record != package:
        sys.exit(f"{package.name} {version} on npm is not the {version} that {MANIFEST.name} records")
    for path, content in contents.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(content)
    return record


def _content(members: tarfile.TarFile, package_path: str) -> bytes:
    name = f"package/{package_path}"
    file = members.extractfile(name) if name in members.getnames() else None
    if file is None:
        sys.exit(f"the package has no file {package_path!r}: correct package_path in {MANIFEST.name}")
    return file.read()


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def download(package: Package, version: str, directory: Path) -> Path:
    """The archive of a version, which npm verifies."""
    command = ["npm", "pack", "--silent", "--pack-destination", str(directory), f"{package.name}@{version}"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    (archive,) = directory.glob("*.tgz")
    return archive


def main() -> None:
    """Check the vendored files, or replace those of a package."""
    parser = argparse.ArgumentParser(prog="python -m tools.vendor")
    parser.add_argument("package", nargs="?", metavar="NAME@VERSION", help="a package that vendored.json lists")
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 if a file is not as recorded")
    arguments = parser.parse_args()
    packages = {package.name: package for package in read_manifest()}
    if arguments.check:
        sentences = [sentence for package in packages.values() for sentence in faults(package, ROOT)]
        for sentence in sentences:
            print(sentence, file=sys.stderr)
        sys.exit(bool(sentences))
    name, _, version = (arguments.package or "").rpartition("@")
    if name not in packages:
        parser.error(f"NAME@VERSION must be a version of one of {', '.join(packages)}, not {arguments.package!r}")
    with tempfile.TemporaryDirectory() as directory:
        archive = download(packages[name], version, Path(directory))
        packages[name] = unpack(archive, packages[name], version, ROOT)
    write_manifest(list(packages.values()))


if __name__ == "__main__":
    main()
