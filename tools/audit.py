"""Known vulnerabilities of the packages that `constraints.txt` and the image pin: `python -m tools.audit`.

pip-audit asks its vulnerability service. Without a network, `--advisories` names advisories that were downloaded
before: files of the OSV format, in a directory or a ZIP file, as OSV exports them per ecosystem.

Status 0: every package was compared and none is vulnerable. 1: some are. 2: some could not be compared, which is not
the same as safe.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import msgspec
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from tools.generated import ROOT

PINS = (ROOT / "constraints.txt", *(ROOT / "deploy" / f"{name}.txt" for name in ("requirements", "torch", "ray")))

ECOSYSTEM = "PyPI"
"""Name of Python's packages in OSV."""


class Finding(NamedTuple):
    """A vulnerability of a pinned version."""

    package: str
    version: str
    advisory: str
    """its id"""
    fixed: str
    """versions in which it is corrected, separated by commas; empty: none"""


class Event(msgspec.Struct, frozen=True):
    """A version at which a range of affected versions begins or ends."""

    introduced: str | None = None
    fixed: str | None = None
    last_affected: str | None = None


class Range(msgspec.Struct, frozen=True):
    """Affected versions, by their order."""

    type: str
    events: list[Event] = []


class Package(msgspec.Struct, frozen=True):
    """A package of an ecosystem."""

    ecosystem: str = ""
    name: str = ""


class Affected(msgspec.Struct, frozen=True):
    """Versions of a package that an advisory is about."""

    package: Package = Package()
    ranges: list[Range] = []
    versions: list[str] = []


class Advisory(msgspec.Struct, frozen=True):
    """An advisory in the OSV format."""

    id: str
    withdrawn: str | None = None
    affected: list[Affected] = []


def pinned_versions(files: Sequence[Path]) -> dict[str, set[str]]:
    """Pinned versions by the canonical name of the package."""
    pins: dict[str, set[str]] = {}
    for file in files:
        for name, version in re.findall(r"^([A-Za-z0-9._-]+)==([^\s;\\]+)", file.read_text(encoding="utf-8"), re.M):
            pins.setdefault(canonicalize_name(name), set()).add(version)
    return pins


def advisories(path: Path) -> Iterator[Advisory]:
    """The advisories of a ZIP file, or of the JSON files below a directory."""
    if path.is_dir():
        contents = (file.read_bytes() for file in sorted(path.rglob("*.json")))
    else:
        archive = zipfile.ZipFile(path)
        contents = (archive.read(name) for name in archive.namelist() if name.endswith(".json"))
    for content in contents:
        yield msgspec.json.decode(content, type=Advisory)


def findings_of(known: Iterator[Advisory], pins: Mapping[str, set[str]]) -> list[Finding]:
    """Pinned versions that an advisory is about."""
    findings = set()
    for advisory in known:
        for affected in advisory.affected:
            name = canonicalize_name(affected.package.name)
            if advisory.withdrawn or affected.package.ecosystem != ECOSYSTEM or name not in pins:
                continue
            fixed = ", ".join(event.fixed for range_ in affected.ranges for event in range_.events if event.fixed)
            findings |= {Finding(name, pin, advisory.id, fixed) for pin in pins[name] if is_affected(pin, affected)}
    return sorted(findings)


def is_affected(version: str, affected: Affected) -> bool:
    """Whether a version is listed, or lies in a range of versions; OSV says that either is enough."""
    if version in affected.versions:
        return True
    ranges = (range_ for range_ in affected.ranges if range_.type in ("ECOSYSTEM", "SEMVER"))
    return any(_in_range(Version(version), range_) for range_ in ranges)


def _in_range(version: Version, range_: Range) -> bool:
    inside = False
    for at, kind in sorted(_bounds(range_), key=lambda bound: bound[0]):
        match kind:
            case "introduced" if version >= at:
                inside = True
            case "fixed" if version >= at:
                inside = False
            case "last_affected" if version > at:
                inside = False
    return inside


def _bounds(range_: Range) -> Iterator[tuple[Version, Literal["introduced", "fixed", "last_affected"]]]:
    for event in range_.events:
        for kind in ("introduced", "fixed", "last_affected"):
            text = getattr(event, kind)
            if text is None:
                continue
            try:
                yield Version("0.dev0" if text == "0" else text), kind
            except InvalidVersion:  # of long ago; the list of versions has those that exist
                continue


class _Dependency(msgspec.Struct, frozen=True):
    name: str
    version: str = ""
    skip_reason: str | None = None
    vulns: list[dict[str, msgspec.Raw]] = []


class _Report(msgspec.Struct, frozen=True):
    dependencies: list[_Dependency]


def asked(pins: Mapping[str, set[str]]) -> tuple[list[Finding], list[str]]:
    """Findings of pip-audit's vulnerability service, and packages about which it knows nothing.

    It counts a package that the service does not answer about as not vulnerable; here it is one not compared.
    """
    findings: list[Finding] = []
    unknown: set[str] = set()
    # A list of requirements names a package once; two files may pin two versions of one.
    for turn in range(max(map(len, pins.values()))):
        requirements = [f"{name}=={sorted(pins[name])[turn]}" for name in sorted(pins) if len(pins[name]) > turn]
        dependencies = _ask(requirements)
        if dependencies is None:
            return [], sorted(pins)
        for dependency in dependencies:
            if dependency.skip_reason is not None:
                unknown.add(dependency.name)
            for entry in dependency.vulns:
                fixed = msgspec.json.decode(entry["fix_versions"], type=list[str])
                advisory = msgspec.json.decode(entry["id"], type=str)
                findings.append(Finding(dependency.name, dependency.version, advisory, ", ".join(fixed)))
    return findings, sorted(unknown)


def _ask(requirements: Sequence[str]) -> list[_Dependency] | None:
    """What pip-audit reports about each requirement; None: it failed, and has said why on stderr."""
    command = [sys.executable, "-m", "pip_audit", "--requirement", "/dev/stdin", "--no-deps", "--disable-pip"]
    done = subprocess.run(
        [*command, "--format", "json", "--progress-spinner", "off"],
        input="".join(f"{requirement}\n" for requirement in requirements),
        text=True,
        stdout=subprocess.PIPE,
        check=False,
    )
    return msgspec.json.decode(done.stdout, type=_Report).dependencies if done.stdout else None


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the findings and what could not be compared."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--advisories", type=Path, help="OSV files: a directory or a ZIP file; nothing is asked online")
    options = parser.parse_args(arguments)
    pins = pinned_versions(PINS)
    unknown: list[str] = []
    if options.advisories is not None:
        known = list(advisories(options.advisories))
        if not any(affected.package.ecosystem == ECOSYSTEM for advisory in known for affected in advisory.affected):
            print(f"{options.advisories} has no advisory about packages of Python", file=sys.stderr)
            return 2
        findings = findings_of(iter(known), pins)
    else:
        findings, unknown = asked(pins)
    for finding in findings:
        print(f"{finding.package} {finding.version}: {finding.advisory}, fixed in: {finding.fixed or 'no version'}")
    if unknown:
        print(
            f"NOT AUDITED: {len(unknown)} of {len(pins)} packages, which the vulnerability service does not know.\n"
            "Repeat it with a network, or download OSV's advisories and pass `--advisories FILE`.",
            file=sys.stderr,
        )
    print(f"{len(pins) - len(unknown)} of {len(pins)} packages audited, {len(findings)} vulnerabilities")
    return 1 if findings else 2 if unknown else 0


if __name__ == "__main__":
    sys.exit(main())
