"""Links in a store lead nowhere: garbage collection, deletion and adoption remove the link and never what it names."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tegakari.schemas.errors import TegakariError
from tegakari.store.disk.durable import GRAVE, bury
from tegakari.store.disk.garbage import collect, find_garbage
from tegakari.store.disk.publish import delete_run

LATER = time.time() + 30 * 24 * 3600
"""A moment at which everything unfinished is old."""


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    directory = tmp_path / "outside"
    (directory / "below").mkdir(parents=True)
    (directory / "below" / "file").write_text("precious")
    return directory


@pytest.fixture
def store(tmp_path: Path) -> Path:
    (tmp_path / "store" / "runs").mkdir(parents=True)
    return tmp_path / "store"


PLACES: dict[str, str] = {
    "work": "work/abandoned",
    "a grave": f"work/{GRAVE}0123456789abcdef",
    "vectors": "vectors/gone-0123456789abcdef",
    "an analysis": "analyses/circuit/00000000000000000000000000000000",
    "a kind of analyses": "analyses/circuit",
    "an unfinished file": ".keys.json.0123456789abcdef",
    "an unfinished job": "jobs/.x.json.0123456789abcdef",
    "a run": "runs/linked",
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("target", ["", "below", "below/file"], ids=["directory", "below", "file"])
def test_garbage_collection_follows_no_link(store: Path, outside: Path, place: str, target: str):
    link = store / PLACES[place]
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(outside / target)
    collect(store, find_garbage(store, now=LATER))
    assert (outside / "below" / "file").read_text() == "precious"


def test_a_link_inside_of_garbage_is_not_followed(store: Path, outside: Path):
    work = store / "work" / "abandoned"
    work.mkdir(parents=True)
    (work / "link").symlink_to(outside)
    (work / "file").write_text("x")
    collect(store, find_garbage(store, now=LATER))
    assert not work.exists()
    assert (outside / "below" / "file").read_text() == "precious"


@pytest.mark.parametrize("remove", [lambda store, link: delete_run(store, link.name), lambda _, link: bury(link)])
def test_deletion_of_a_link_removes_the_link(store: Path, outside: Path, remove: Callable[[Path, Path], None]):
    link = store / "runs" / "linked"
    link.symlink_to(outside)
    with contextlib.suppress(TegakariError):
        remove(store, link)
    assert (outside / "below" / "file").read_text() == "precious"


def test_a_directory_that_becomes_a_link_after_it_was_listed_is_not_followed(store: Path, outside: Path):
    work = store / "work" / "abandoned"
    work.mkdir(parents=True)
    (work / "file").write_text("x")
    listed = find_garbage(store, now=LATER)
    assert [entry.path for entry in listed] == [work]
    os.rename(work, work.with_name("moved"))  # noqa: PTH104
    work.symlink_to(outside)
    collect(store, listed)
    assert (outside / "below" / "file").read_text() == "precious"
