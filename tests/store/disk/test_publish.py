"""Publication, verification, deletion and import of runs: changed bytes are named, other formats refused."""

from __future__ import annotations

import json
import random
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tegakari.schemas.errors import NotFoundError, RunExistsError, StoreError
from tegakari.schemas.run import FORMAT, READ_FORMATS
from tegakari.store import Store
from tegakari.store.disk import publish as publish_module
from tegakari.store.disk.publish import adopt_run, damaged_files, delete_run
from tests.support.factories import make_run


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("store")
    make_run(root, "drawn")
    return root


def flipped(raw: bytes, at: int, bit: int) -> bytes:
    return raw[:at] + bytes([raw[at] ^ (1 << bit)]) + raw[at + 1 :]


def damage_report(store: Path) -> str:
    try:
        return "; ".join(damaged_files(store, "drawn"))
    except StoreError as error:
        return error.message


def test_one_flipped_bit_in_any_file_is_named(store: Path):
    directory = store / "runs" / "drawn"
    generator = random.Random(0)
    files = sorted(file for file in directory.rglob("*") if file.is_file())
    assert len(files) > 20
    for file in files:
        raw = file.read_bytes()
        for _ in range(3):
            file.write_bytes(flipped(raw, generator.randrange(len(raw)), generator.randrange(8)))
            try:
                report = damage_report(store)
                assert report.startswith(file.relative_to(directory).as_posix()), report
                assert ";" not in report
            finally:
                file.write_bytes(raw)
    assert damaged_files(store, "drawn") == []


def test_a_changed_byte_of_run_json_is_damage(store: Path):
    """Including spaces and names of keys: the only checksum of run.json is its own."""
    file = store / "runs" / "drawn" / "run.json"
    raw = file.read_bytes()
    try:
        for at in range(0, len(raw), 7):
            file.write_bytes(flipped(raw, at, at % 8))
            assert damage_report(store).startswith("run.json"), raw[max(0, at - 20) : at + 20]
    finally:
        file.write_bytes(raw)


def test_missing_and_additional_files_are_named(store: Path):
    directory = store / "runs" / "drawn"
    database = directory / "index.duckdb"
    database.rename(directory / "other.duckdb")
    try:
        assert damaged_files(store, "drawn") == ["index.duckdb: missing", "other.duckdb: not part of the run"]
    finally:
        (directory / "other.duckdb").rename(database)


@pytest.mark.parametrize(("version", "fix"), [(FORMAT + 1, "upgrade"), (READ_FORMATS[0] - 1, "index again")])
def test_runs_of_other_formats_are_refused_with_a_fix(store: Path, version: int, fix: str):
    file = store / "runs" / "drawn" / "run.json"
    raw = file.read_bytes()
    file.write_text(json.dumps(json.loads(raw) | {"format": version}))
    try:
        with pytest.raises(StoreError, match=f"has format {version}") as caught:
            Store(store).run("drawn")
        assert caught.value.fix
        assert fix in caught.value.fix
        assert Store(store).runs() == []
    finally:
        file.write_bytes(raw)


def test_a_name_that_is_published_meanwhile_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Another process publishes the name between the check and the rename."""
    make_run(tmp_path, "drawn")
    monkeypatch.setattr(Path, "exists", lambda self: False)
    with pytest.raises(RunExistsError, match="'drawn' exists"):
        make_run(tmp_path, "drawn", seed=1)


def test_concurrent_deletions_delete_a_run_once(tmp_path: Path):
    make_run(tmp_path, "drawn")
    start = threading.Barrier(8)

    def delete(_: int) -> str:
        start.wait()
        try:
            delete_run(tmp_path, "drawn")
        except NotFoundError:
            return "not found"
        return "deleted"

    with ThreadPoolExecutor(8) as pool:
        outcomes = list(pool.map(delete, range(8)))
    assert sorted(outcomes) == ["deleted", *["not found"] * 7]
    assert Store(tmp_path).names() == []


def test_a_run_of_another_store_is_imported(store: Path, tmp_path: Path):
    source = store / "runs" / "drawn"
    adopt_run(tmp_path, source)
    assert damaged_files(tmp_path, "drawn") == []
    assert Store(tmp_path).run("drawn").labels == Store(store).run("drawn").labels
    with pytest.raises(RunExistsError):
        adopt_run(tmp_path, source)
    with pytest.raises(NotFoundError):
        adopt_run(tmp_path, store)
    assert not list((tmp_path / "work").iterdir())


def test_a_damaged_run_is_not_imported(store: Path, tmp_path: Path):
    copy = tmp_path / "copy"
    shutil.copytree(store / "runs" / "drawn", copy)
    file = copy / "index.duckdb"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    with pytest.raises(StoreError, match=r"index\.duckdb"):
        adopt_run(tmp_path / "store", copy)
    assert not (tmp_path / "store" / "runs" / "drawn").exists()


def test_a_run_that_is_deleted_while_it_is_verified_is_not_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    make_run(tmp_path, "drawn")
    original = publish_module.sha256_of

    def digest_of_a_deleted_file(file: Path) -> str:
        if file.exists():
            delete_run(tmp_path, "drawn")
        return original(file)

    monkeypatch.setattr(publish_module, "sha256_of", digest_of_a_deleted_file)
    with pytest.raises(NotFoundError, match="no run 'drawn'"):
        damaged_files(tmp_path, "drawn")
