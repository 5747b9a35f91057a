"""Notes beside a run: what is written is read, by several processes at once, and whatever else lies in their place."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import time
from pathlib import Path

import msgspec
import pyarrow.parquet as pq
import pytest

from tegakari.schemas.errors import CursorError, NotFoundError, QueryError, StoreError
from tegakari.schemas.notes import MAX_TAG, MAX_TAGS, MAX_TEXT, Note, NoteChange
from tegakari.store import Run, Store, note_files
from tegakari.store import notes as notes_module
from tegakari.store.disk.garbage import GRAVE_SECONDS, find_garbage
from tegakari.store.disk.layout import notes_directory
from tegakari.store.disk.publish import delete_run
from tegakari.store.export.tables import export_run
from tegakari.store.notes import count_notes, delete_note, notes, starred_features, write_note
from tegakari.store.sql.query import run_query
from tests.support.factories import make_run

RUN = "drawn"


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("store")
    make_run(directory, RUN)
    return directory


@pytest.fixture
def run(drawn: Path) -> Run:
    shutil.rmtree(drawn / "notes", ignore_errors=True)
    return Store(drawn).run(RUN)


def file_of(run: Run) -> Path:
    (file,) = notes_directory(run.store, run.manifest).glob("*.json")
    return file


def test_a_note_is_read_as_it_was_written(run: Run):
    change = NoteChange(starred=True, tags=["車", "kei", "車"], text="fires on 軽トラ\r\nonly")
    note = write_note(run, 1, 3, "Ann", change)
    assert (note.layer, note.feature, note.author, note.starred) == (1, 3, "Ann", True)
    assert (note.tags, note.text) == (["車", "kei"], "fires on 軽トラ\nonly")
    assert note.created == note.updated
    assert notes(run).items == [note]
    write_note(run, 1, 4, "Ann", NoteChange(text="no star"))
    assert starred_features(run, [(1, 3), (1, 4), (0, 0)]) == {(1, 3)}


def test_a_change_leaves_the_other_fields_as_they_are(run: Run):
    write_note(run, 1, 3, "Ann", NoteChange(text="first", tags=["a"]))
    write_note(run, 1, 3, "山田\u3000太郎", NoteChange(text="another"))
    write_note(run, 1, 3, "Ann", NoteChange(starred=True))
    ann, bob = notes(run).items
    assert (ann.starred, ann.tags, ann.text) == (True, ["a"], "first")
    assert (bob.author, bob.text, bob.starred) == ("山田\u3000太郎", "another", False)


def test_a_note_with_nothing_in_it_is_removed(run: Run):
    write_note(run, 0, 0, "Ann", NoteChange(starred=True))
    assert write_note(run, 0, 0, "Ann", NoteChange(starred=False)).empty
    assert notes(run).items == []
    assert count_notes(run.store, run.manifest) == 0


def test_a_note_is_deleted_once(run: Run):
    note = write_note(run, 0, 5, "Ann", NoteChange(text="x"))
    assert delete_note(run, 0, 5, "Ann") == note
    with pytest.raises(NotFoundError, match="'Ann' has no note on feature 0:5"):
        delete_note(run, 0, 5, "Ann")
    shutil.rmtree(run.store / "notes")
    with pytest.raises(NotFoundError):
        delete_note(run, 0, 5, "Ann")
    assert not (run.store / "notes").exists()


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({}, ["0:1 Ann", "0:1 Bob", "1:2 Ann", "2:39 Ann"]),
        ({"layer": 0}, ["0:1 Ann", "0:1 Bob"]),
        ({"layer": 1, "feature": 2}, ["1:2 Ann"]),
        ({"feature": 39}, ["2:39 Ann"]),
        ({"tag": "車"}, ["0:1 Ann"]),
        ({"tag": "nothing"}, []),
        ({"starred": True}, ["0:1 Bob"]),
        ({"starred": False, "author": "Ann"}, ["0:1 Ann", "1:2 Ann", "2:39 Ann"]),
        ({"q": "ﾄﾗｯｸ KEI"}, ["1:2 Ann"]),
        ({"q": "車"}, ["0:1 Ann"]),
    ],
)
def test_notes_are_filtered(run: Run, filters: dict[str, object], expected: list[str]):
    write_note(run, 2, 39, "Ann", NoteChange(text="last"))
    write_note(run, 0, 1, "Bob", NoteChange(starred=True))
    write_note(run, 0, 1, "Ann", NoteChange(tags=["車", "b"]))
    write_note(run, 1, 2, "Ann", NoteChange(text="Kei トラック", tags=["c"]))
    assert [f"{note.layer}:{note.feature} {note.author}" for note in notes(run, **filters).items] == expected  # pyright: ignore


def test_pages_go_on_where_the_last_one_ended_whatever_was_written_between(run: Run):
    for feature in range(7):
        write_note(run, 1, feature, "Ann", NoteChange(starred=True))
    first = notes(run, limit=3)
    assert [note.feature for note in first.items] == [0, 1, 2]
    delete_note(run, 1, 2, "Ann")
    write_note(run, 0, 9, "Ann", NoteChange(starred=True))
    second = notes(run, limit=3, cursor=first.next)
    assert [note.feature for note in second.items] == [3, 4, 5]
    third = notes(run, limit=3, cursor=second.next)
    assert [note.feature for note in third.items] == [6]
    assert third.next is None
    with pytest.raises(CursorError):
        notes(run, limit=3, starred=True, cursor=first.next)
    with pytest.raises(QueryError, match="1001"):
        notes(run, limit=1001)


@pytest.mark.parametrize(
    ("author", "change", "field"),
    [
        ("", NoteChange(starred=True), "author"),
        (" Ann", NoteChange(starred=True), "author"),
        ("A\x1b[2J", NoteChange(starred=True), "author"),
        ("a" * 101, NoteChange(starred=True), "author"),
        ("Ann", NoteChange(text="x" * (MAX_TEXT + 1)), "text"),
        ("Ann", NoteChange(text="\ud800"), "text"),
        ("Ann", NoteChange(tags=[str(n) for n in range(MAX_TAGS + 1)]), "tags"),
        ("Ann", NoteChange(tags=["t" * (MAX_TAG + 1)]), "tags[0]"),
        ("Ann", NoteChange(tags=["a,b"]), "tags[0]"),
        ("Ann", NoteChange(tags=["a\nb"]), "tags[0]"),
        ("Ann", NoteChange(tags=["a\n"]), "tags[0]"),
        ("Ann\n", NoteChange(starred=True), "author"),
        ("Ann\u2028Bob", NoteChange(starred=True), "author"),
    ],
)
def test_a_wrong_value_is_refused_with_its_field(run: Run, author: str, change: NoteChange, field: str):
    with pytest.raises(QueryError) as raised:
        write_note(run, 0, 0, author, change)
    assert raised.value.field == field
    assert raised.value.fix
    assert len(raised.value.message) < 250
    assert notes(run).items == []


def test_notes_need_a_feature_of_the_run(run: Run):
    for layer, feature in ((9, 0), (0, 4000)):
        with pytest.raises(NotFoundError):
            write_note(run, layer, feature, "Ann", NoteChange(starred=True))


def test_a_run_has_a_largest_number_of_notes(run: Run, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(notes_module, "MAX_NOTES", 2)
    write_note(run, 0, 0, "Ann", NoteChange(starred=True))
    write_note(run, 0, 1, "Ann", NoteChange(starred=True))
    with pytest.raises(QueryError, match="has 2 notes"):
        write_note(run, 0, 2, "Ann", NoteChange(starred=True))
    write_note(run, 0, 1, "Ann", NoteChange(text="changed"))


def test_damaged_and_hostile_files_are_left_out(run: Run, tmp_path: Path):
    note = write_note(run, 1, 3, "Ann", NoteChange(text="whole"))
    file = file_of(run)
    directory, content = file.parent, file.read_bytes()
    moved = file.name.replace("1-3", "1-4")
    (directory / moved).write_bytes(content)
    (directory / "0-0-0000000000000000.json").write_bytes(b"{")
    (directory / "0-1-0000000000000000.json").write_bytes(b" " * (note_files.MAX_FILE + 1))
    os.mkfifo(directory / "0-2-0000000000000000.json")
    (directory / "0-3-0000000000000000.json").mkdir()
    secret = tmp_path / "secret.json"
    secret.write_bytes(content)
    (directory / f"2-3-{file.stem[-16:]}.json").symlink_to(secret)
    (directory / "stranger.txt").write_text("x")
    assert notes(run).items == [note]
    wrong = json.loads(content)
    wrong["note"]["tags"] = ["x" * 41]
    file.write_text(json.dumps(wrong))
    assert notes(run).items == []
    assert write_note(run, 1, 3, "Ann", NoteChange(text="again")).text == "again"
    assert [row.text for row in notes(run).items] == ["again"]


def test_a_file_is_read_once_until_it_is_replaced(run: Run, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(note_files, "SETTLED_NS", -1)
    first, second = (write_note(run, 1, feature, "Ann", NoteChange(text="first")) for feature in (3, 4))
    reads: list[str] = []
    read = note_files.read_note
    monkeypatch.setattr(note_files, "read_note", lambda file, of: reads.append(file.name) or read(file, of))
    for _ in range(3):
        assert notes(run).items == [first, second]
        assert starred_features(run, [(1, 3)]) == set()
    assert len(reads) == 2
    file = notes_directory(run.store, run.manifest) / file_name(first)
    file.with_name("new").write_bytes(file.read_bytes().replace(b"first", b"third").replace(b"false", b"true"))
    file.with_name("new").replace(file)  # as another process does it
    assert [note.text for note in notes(run).items] == ["third", "first"]
    assert starred_features(run, [(1, 3), (1, 4)]) == {(1, 3)}
    assert len(reads) == 3
    file.unlink()
    assert notes(run).items == [second]


def test_a_directory_that_has_just_changed_is_read_again(run: Run, monkeypatch: pytest.MonkeyPatch):
    """Two changes within a step of the file system's clock leave the same times."""
    write_note(run, 1, 3, "Ann", NoteChange(text="first"))
    monkeypatch.setattr(note_files, "_state", lambda directory: (1, 2, time.time_ns()))
    assert len(notes(run).items) == 1
    write_note(run, 1, 4, "Ann", NoteChange(text="second"))
    assert len(notes(run).items) == 2


def test_only_so_many_bytes_of_notes_stay_in_memory(run: Run, monkeypatch: pytest.MonkeyPatch):
    listings = note_files.NoteListings()
    monkeypatch.setattr(note_files, "_listings", listings)
    write_note(run, 1, 3, "Ann", NoteChange(text="x" * 100))
    assert len(notes(run).items) == 1
    assert listings.size == file_of(run).stat().st_size
    monkeypatch.setattr(note_files, "MAX_CACHED", 100)
    write_note(run, 1, 4, "Ann", NoteChange(text="x" * 100))
    assert [len(notes(run).items) for _ in range(2)] == [2, 2]
    assert listings.size == 0


@pytest.mark.parametrize("linked", ["notes", "run"])
def test_a_linked_directory_is_neither_read_nor_written(run: Run, tmp_path: Path, linked: str):
    write_note(run, 1, 3, "Ann", NoteChange(text="whole"))
    directory = notes_directory(run.store, run.manifest)
    link = directory if linked == "run" else directory.parent
    shutil.move(link, tmp_path / "elsewhere")
    link.symlink_to(tmp_path / "elsewhere")
    before = sorted((tmp_path / "elsewhere").rglob("*"))
    assert notes(run).items == []
    with pytest.raises(StoreError, match="link"):
        write_note(run, 1, 4, "Ann", NoteChange(text="x"))
    with pytest.raises(StoreError, match="link"):
        delete_note(run, 1, 3, "Ann")
    assert sorted((tmp_path / "elsewhere").rglob("*")) == before
    link.unlink()


WRITERS = 3
CHANGES = 12


def write_many(store: Path, writer: int) -> None:
    run = Store(store).run(RUN)
    for number in range(CHANGES):
        write_note(run, 1, number, f"writer {writer}", NoteChange(text=f"{writer}.{number}"))
        # One note of all writers: each changes another field, and none may be lost.
        change = {
            0: NoteChange(text=f"text {number}"),
            1: NoteChange(tags=[f"tag{number}"]),
            2: NoteChange(starred=True),
        }.get(writer, NoteChange())
        write_note(run, 2, 0, "all", change)


def test_processes_write_at_the_same_time(run: Run):
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=write_many, args=(run.store, writer)) for writer in range(WRITERS)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
    assert [process.exitcode for process in processes] == [0] * WRITERS
    found = notes(run, limit=1000).items
    assert len(found) == WRITERS * CHANGES + 1
    (common,) = (note for note in found if note.author == "all")
    assert (common.text, common.tags, common.starred) == (f"text {CHANGES - 1}", [f"tag{CHANGES - 1}"], True)
    assert {path.suffix for path in notes_directory(run.store, run.manifest).iterdir()} == {".json"}


def test_notes_are_a_table_of_sql_and_of_exports(run: Run, tmp_path: Path):
    written = [write_note(run, 1, feature, "Ann", NoteChange(text="=1+1", tags=["a", "b"])) for feature in (7, 3)]
    expected = sorted(map(msgspec.structs.asdict, written), key=lambda row: row["feature"])
    rows = run_query(run.store, [RUN], "FROM notes ORDER BY feature").read_all().to_pylist()
    assert rows == [{"run": RUN, **row} for row in expected]
    assert export_run(run, tmp_path / "exported", tables=["notes"]) == {"notes": 2}
    assert pq.read_table(tmp_path / "exported" / "notes.parquet").to_pylist() == expected


def test_notes_outlive_their_run_and_are_no_garbage(drawn: Path, tmp_path: Path):
    store = tmp_path / "store"
    manifest = make_run(store, RUN)
    note = write_note(Store(store).run(RUN), 1, 3, "Ann", NoteChange(text="work"))
    delete_run(store, RUN)
    unfinished = notes_directory(store, manifest) / f".{file_name(note)}.0123456789abcdef"
    unfinished.write_bytes(b"half")
    found = find_garbage(store, now=unfinished.stat().st_ctime + GRAVE_SECONDS + 1)
    assert [entry.path for entry in found if "notes" in entry.path.parts] == [unfinished]
    make_run(store, RUN)
    assert notes(Store(store).run(RUN)).items == [note]


def file_name(note: Note) -> str:
    return note_files.file_name(note.layer, note.feature, note.author)
