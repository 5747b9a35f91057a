"""Fingerprints: what they depend on, and digests that are remembered."""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path

import pytest

from tegakari.models import digest_cache
from tegakari.models.fingerprint import fingerprint


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model of two files, one of them large enough to be remembered, and an empty cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(digest_cache, "LARGE", 1000)
    directory = tmp_path / "model"
    (directory / "layer_00").mkdir(parents=True)
    (directory / "config.json").write_text("{}")
    (directory / "layer_00" / "weights.safetensors").write_bytes(bytes(5000))
    return directory


def read_files(monkeypatch: pytest.MonkeyPatch, directory: Path) -> tuple[str, list[str]]:
    """The fingerprint, and the names of the files that were read for it."""
    names = []
    original = hashlib.file_digest

    def counted(stream, algorithm):
        names.append(Path(stream.name).name)
        return original(stream, algorithm)

    monkeypatch.setattr(hashlib, "file_digest", counted)
    result = fingerprint(directory)
    monkeypatch.setattr(hashlib, "file_digest", original)
    return result, sorted(names)


def settle(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the files be older than the clock's resolution."""
    later = time.time_ns() + 10**10
    monkeypatch.setattr(time, "time_ns", lambda: later)


def test_it_is_the_hash_of_names_and_contents(model: Path):
    (model / "report.json").write_text("ignored")
    (model / "README.md").write_text("ignored")
    digest = hashlib.sha256()
    for name, content in (("config.json", b"{}"), ("layer_00/weights.safetensors", bytes(5000))):
        digest.update(name.encode() + b"\0" + hashlib.sha256(content).digest())
    assert fingerprint(model) == digest.hexdigest()


def test_a_large_file_is_read_once(model: Path, monkeypatch: pytest.MonkeyPatch):
    settle(monkeypatch)
    first, names = read_files(monkeypatch, model)
    assert names == ["config.json", "weights.safetensors"]
    assert read_files(monkeypatch, model) == (first, ["config.json"])


@pytest.mark.parametrize("keeps_times", [False, True])
def test_a_changed_file_is_noticed(model: Path, monkeypatch: pytest.MonkeyPatch, keeps_times: bool):
    settle(monkeypatch)
    first = fingerprint(model)
    weights = model / "layer_00" / "weights.safetensors"
    stat = weights.stat()
    time.sleep(0.02)  # more than a tick of the system's clock
    with weights.open("r+b") as stream:
        stream.write(b"x")
    if keeps_times:
        os.utime(weights, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    changed, names = read_files(monkeypatch, model)
    assert changed != first
    assert "weights.safetensors" in names


def test_a_replaced_file_is_noticed(model: Path, monkeypatch: pytest.MonkeyPatch):
    settle(monkeypatch)
    first = fingerprint(model)
    weights = model / "layer_00" / "weights.safetensors"
    other = weights.with_suffix(".part")
    other.write_bytes(bytes(4999) + b"x")
    other.replace(weights)
    assert fingerprint(model) != first


def test_a_file_that_has_just_changed_is_not_remembered(model: Path, monkeypatch: pytest.MonkeyPatch):
    fingerprint(model)
    assert read_files(monkeypatch, model)[1] == ["config.json", "weights.safetensors"]


def test_a_cache_that_cannot_be_used_is_left_out(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    settle(monkeypatch)
    first = fingerprint(model)
    cache = tmp_path / "cache" / "tegakari" / "sha256.json"
    cache.write_text("{ damaged")
    assert fingerprint(model) == first
    cache.unlink()
    cache.mkdir()
    assert fingerprint(model) == first
