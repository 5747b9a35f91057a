"""Garbage collection removes what no run needs, and nothing else."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import msgspec
import numpy as np
import pytest

from tegakari.schemas.analysis_kinds import AnalysisKind
from tegakari.schemas.errors import StoreError
from tegakari.store import Store
from tegakari.store.disk import garbage as garbage_module
from tegakari.store.disk.durable import exclusive_lock, staged_directory
from tegakari.store.disk.garbage import collect, find_garbage
from tegakari.store.disk.publish import damaged_files, delete_run
from tegakari.store.results import publish_analysis, stored_analyses
from tegakari.store.vectors import publish_added
from tests.support.factories import D_MODEL, make_run

LATER = 48 * 3600


class Settings(msgspec.Struct, frozen=True):
    k: int


KIND = AnalysisKind("test", Settings, Settings)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A run, `kept`, and a deleted run, `gone`; both had vectors and an analysis."""
    for seed, name in enumerate(("kept", "gone")):
        manifest = make_run(tmp_path, name, seed=seed)
        directions = {layer: np.ones((40, D_MODEL), np.float32) for layer in manifest.saes.layers}
        texts = ["x"] * manifest.corpus.documents
        publish_added(tmp_path, manifest, directions, [np.ones((len(texts), D_MODEL), np.float32)], texts)
        publish_analysis(tmp_path, KIND, [manifest], Settings(1), Settings(2), {}, seconds=1.0, versions={})
    delete_run(tmp_path, "gone")
    return tmp_path


def files(directory: Path) -> set[Path]:
    return {path for path in directory.rglob("*") if path.is_file()}


def test_vectors_and_analyses_of_a_deleted_run_are_removed(store: Path):
    garbage = find_garbage(store)
    reasons = {entry.path.parent.name: entry.reason for entry in garbage}
    assert len(garbage) == 2
    assert reasons["vectors"] == "vectors of a deleted run"
    assert reasons["test"] == "analysis of a deleted run: gone"
    assert all(entry.size > 0 for entry in garbage)
    removed = {path for entry in garbage for path in files(entry.path)}
    before = files(store)
    collect(store, garbage)
    assert files(store) == before - removed
    assert find_garbage(store) == []
    assert damaged_files(store, "kept") == []
    assert [analysis.manifest.runs[0].run for analysis in stored_analyses(store)] == ["kept"]


def test_a_new_run_of_the_same_name_does_not_keep_the_old_analyses(store: Path):
    make_run(store, "gone", seed=7)
    assert len(find_garbage(store)) == 2


def test_recent_or_locked_work_stays(store: Path):
    work = store / "work" / "half"
    (work / "shards").mkdir(parents=True)
    (work / "lock").touch()
    grave = store / "work" / ".deleted-old-1"
    grave.mkdir()
    (grave / "file").write_bytes(b"x" * 10)
    (store / "jobs").mkdir()
    unfinished = store / "jobs" / ".job.json.0123456789abcdef"
    unfinished.touch()
    later = time.time() + LATER
    assert {work, grave, unfinished}.isdisjoint(entry.path for entry in find_garbage(store))
    with exclusive_lock(work / "lock", StoreError("busy")):
        assert work not in {entry.path for entry in find_garbage(store, now=later)}
    assert {work, grave, unfinished} <= {entry.path for entry in find_garbage(store, now=later)}
    collect(store, find_garbage(store, now=later))
    assert list((store / "work").iterdir()) == []
    assert list((store / "jobs").iterdir()) == []


def test_unfinished_work_of_a_run_named_as_a_deletion_stays(store: Path):
    work = store / "work" / "deleted-x"
    work.mkdir()
    with exclusive_lock(work / "lock", StoreError("busy")):
        assert work not in {entry.path for entry in find_garbage(store, now=time.time() + LATER)}


def test_an_old_run_stays_while_it_is_published(store: Path):
    """Its files have the times of the original."""
    target = store / "runs" / "copy"
    with staged_directory(target, store / "work" / "adopt-0") as staged:
        (staged / "file").write_bytes(b"x")
        os.utime(staged / "file", (0, 0))
        os.utime(staged, (0, 0))
        assert staged not in {entry.path for entry in find_garbage(store)}
        assert staged not in {entry.path for entry in find_garbage(store, now=time.time() + LATER)}
    assert (target / "file").exists()


def test_work_that_is_resumed_after_it_was_listed_stays(store: Path):
    work = store / "work" / "half"
    work.mkdir()
    (work / "lock").touch()
    garbage = find_garbage(store, now=time.time() + LATER)
    with exclusive_lock(work / "lock", StoreError("busy")):
        collect(store, garbage)
    assert work.exists()


def test_garbage_that_vanishes_is_skipped(store: Path, monkeypatch: pytest.MonkeyPatch):
    shutil.rmtree(store / "work", ignore_errors=True)
    listed = garbage_module.entries
    monkeypatch.setattr(garbage_module, "entries", lambda path: [*listed(path), path / "gone"])
    collect(store, find_garbage(store, now=time.time() + LATER))
    assert find_garbage(store, now=time.time() + LATER)[0].path.name == "gone"


def test_a_damaged_run_keeps_what_it_may_need_and_stops_nothing(store: Path):
    (store / "runs" / "kept" / "run.json").write_text("{")
    (store / "runs" / "Stray").mkdir()
    reasons = sorted(entry.reason for entry in find_garbage(store))
    assert reasons == ["analysis of a deleted run: gone", "vectors of a deleted run"]


def test_an_empty_store_has_no_garbage(tmp_path: Path):
    assert find_garbage(tmp_path / "none") == []
    assert Store(tmp_path / "none").names() == []
