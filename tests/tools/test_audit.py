"""The audit: findings by OSV's rules, and no package passed over in silence."""

from __future__ import annotations

import importlib.util
import json
import zipfile
from pathlib import Path
from typing import Any

import pytest

from tools import audit


def advisory(
    name: str, *, versions: list[str] | None = None, events: list[dict[str, str]] | None = None, **more: Any
) -> bytes:
    ranges = [{"type": "ECOSYSTEM", "events": events}] if events else []
    affected = [{"package": {"ecosystem": "PyPI", "name": name}, "versions": versions or [], "ranges": ranges}]
    return json.dumps({"id": "TEST-1", "affected": affected, "summary": "x", **more}).encode()


@pytest.mark.parametrize(
    ("version", "events", "expected"),
    [
        ("3.1.5", [{"introduced": "0"}, {"fixed": "3.1.6"}], True),
        ("3.1.6", [{"introduced": "0"}, {"fixed": "3.1.6"}], False),
        ("3.1.6.dev1", [{"introduced": "0"}, {"fixed": "3.1.6"}], True),
        ("2.0", [{"introduced": "2.0"}, {"last_affected": "2.5"}], True),
        ("2.5", [{"introduced": "2.0"}, {"last_affected": "2.5"}], True),
        ("2.6", [{"introduced": "2.0"}, {"last_affected": "2.5"}], False),
        ("1.9", [{"introduced": "2.0"}], False),
        ("10.0", [{"introduced": "2.0"}], True),
        ("4.1", [{"introduced": "0"}, {"fixed": "3.0"}, {"introduced": "4.0"}, {"fixed": "4.2"}], True),
        ("3.5", [{"introduced": "4.0"}, {"fixed": "4.2"}, {"introduced": "0"}, {"fixed": "3.0"}], False),
        ("1.0", [{"introduced": "0"}, {"fixed": "not-a-version"}], True),
    ],
)
def test_ranges_are_read_as_osv_defines_them(version: str, events: list[dict[str, str]], expected: bool):
    affected = audit.msgspec.json.decode(advisory("a", events=events), type=audit.Advisory).affected[0]
    assert audit.is_affected(version, affected) == expected


def test_pinned_packages_are_compared_with_advisories_offline(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    version = next(iter(audit.pinned_versions(audit.PINS)["jinja2"]))
    (tmp_path / "one.json").write_bytes(advisory("Jinja2", events=[{"introduced": "0"}, {"fixed": "99"}]))
    assert audit.main(["--advisories", str(tmp_path)]) == 1
    assert f"jinja2 {version}: TEST-1, fixed in: 99" in capsys.readouterr().out
    archive = tmp_path / "all.zip"
    with zipfile.ZipFile(archive, "w") as stream:
        stream.writestr("a.json", advisory("jinja2", versions=["0.1"]))
        stream.writestr("b.json", advisory("jinja2", versions=[version], withdrawn="2026-01-01T00:00:00Z"))
        stream.writestr("c.json", advisory("not-pinned", events=[{"introduced": "0"}]))
    assert audit.main(["--advisories", str(archive)]) == 0
    assert ", 0 vulnerabilities" in capsys.readouterr().out


def test_no_advisories_are_not_taken_for_safety(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "one.json").write_bytes(b'{"id": "X", "affected": [{"package": {"ecosystem": "npm", "name": "a"}}]}')
    assert audit.main(["--advisories", str(tmp_path)]) == 2
    assert "no advisory" in capsys.readouterr().err


def test_all_pins_are_read():
    pins = audit.pinned_versions(audit.PINS)
    assert len(pins) > 150
    assert pins["faker"]
    assert pins["nvidia-cublas"]


@pytest.mark.skipif(importlib.util.find_spec("pip_audit") is None, reason="pip-audit is not installed")
def test_packages_without_an_answer_are_named_as_not_audited(capsys: pytest.CaptureFixture[str]):
    findings, unknown = audit.asked({"a-package-that-nobody-made-2026": {"1.0"}})
    assert not findings
    assert unknown == ["a-package-that-nobody-made-2026"]
