"""Publishing, verifying and reading run.json: any byte that changes is named, other formats are refused."""

from __future__ import annotations

import json
import random
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tegakari.schemas.errors import NotFoundError, RunExistsError, StoreError
from tegakari.schemas.run import FORMAT
from tegakari.store import Store
from tegakari.store.disk.publish import damaged_files, delete_run
from tests.support.factories import make_run


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("store")
    make_run(root, "drawn")
    return root


def flipped(raw: bytes, at: int, bit: int) -> bytes:
    return raw[:at] + bytes([raw[at] ^ (1 << bit)]) + raw[at + 1 :]


def what_verify_says(store: Path) -> str:
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
                said = what_verify_says(store)
                assert said.startswith(file.relative_to(directory).as_posix()), said
                assert ";" not in said
            finally:
                file.write_bytes(raw)
    assert damaged_files(store, "drawn") == []


def test_every_single_byte_of_run_json_matters(store: Path):
    """Spaces and names of keys included; run.json has no checksum but its own."""
    file = store / "runs" / "drawn" / "run.json"
    raw = file.read_bytes()
    try:
        for at in range(0, len(raw), 7):
            file.write_bytes(flipped(raw, at, at % 8))
            assert what_verify_says(store).startswith("run.json"), raw[max(0, at - 20) : at + 20]
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


@pytest.mark.parametrize(("version", "fix"), [(FORMAT + 1, "upgrade"), (FORMAT - 1, "index again")])
def test_runs_of_other_formats_are_refused_with_the_way_out(store: Path, version: int, fix: str):
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


def test_a_name_taken_in_the_last_moment_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Between looking and renaming another process has published the name."""
    make_run(tmp_path, "drawn")
    monkeypatch.setattr(Path, "exists", lambda self: False)
    with pytest.raises(RunExistsError, match="'drawn' exists"):
        make_run(tmp_path, "drawn", seed=1)


def test_many_deleting_one_run_delete_it_once(tmp_path: Path):
    make_run(tmp_path, "drawn")
    together = threading.Barrier(8)

    def delete(_: int) -> str:
        together.wait()
        try:
            delete_run(tmp_path, "drawn")
        except NotFoundError:
            return "gone"
        return "deleted"

    with ThreadPoolExecutor(8) as pool:
        said = list(pool.map(delete, range(8)))
    assert sorted(said) == ["deleted", *["gone"] * 7]
    assert Store(tmp_path).names() == []
