"""Explanations beside a run: what is written is read, by several processes at once, and whatever the log contains."""

from __future__ import annotations

import errno
import multiprocessing
import os
import shutil
from pathlib import Path

import msgspec
import pytest

from tegakari.schemas.analysis import Interval
from tegakari.schemas.errors import CursorError, DiskFullError, NotFoundError, QueryError, StoreError
from tegakari.schemas.explanations import (
    MAX_EXPLANATION,
    Explanation,
    ExplanationScore,
    NewExplanation,
    VoteChange,
    explanation_id,
)
from tegakari.store import Run, Store
from tegakari.store.disk.garbage import find_garbage
from tegakari.store.disk.layout import explanations_directory
from tegakari.store.disk.publish import delete_run
from tegakari.store.explanations import (
    NewScore,
    add_explanations,
    add_scores,
    best_explanations,
    delete_explanation,
    explanations,
    feature_explanations,
    log_file,
    vote,
    write_explanation,
)
from tests.support.factories import make_run

RUN = "drawn"


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("store")
    make_run(directory, RUN)
    return directory


@pytest.fixture
def run(drawn: Path) -> Run:
    shutil.rmtree(drawn / "explanations", ignore_errors=True)
    return Store(drawn).run(RUN)


def log_of(run: Run) -> Path:
    return explanations_directory(run.store, run.manifest) / "log.jsonl"


def of_model(layer: int, feature: int, text: str, language: str = "en") -> Explanation:
    return Explanation(
        id=explanation_id(layer, feature, "model", "tiny", text),
        layer=layer,
        feature=feature,
        text=text,
        language=language,
        method="model",
        author="tiny",
        model="tiny",
        prompt_version="explain-1",
        created="2026-11-27T00:00:00+00:00",
    )


def score(value: float, judge: str = "terms", protocol: str = "detection") -> ExplanationScore:
    interval = Interval(value=value, low=value - 0.1, high=value + 0.1)
    return msgspec.convert(
        {
            "protocol": protocol,
            "negatives": "random",
            "judge": judge,
            "balanced_accuracy": msgspec.to_builtins(interval),
            "active_contexts": 10,
            "other_contexts": 10,
            "unanswered": 0,
            "created": "2026-11-27T00:00:00+00:00",
        },
        ExplanationScore,
    )


def test_an_explanation_is_read_as_it_was_written(run: Run):
    written = write_explanation(run, 1, 3, "Ann", NewExplanation(text=" kei\n trucks "))
    japanese = write_explanation(run, 1, 3, "山田", NewExplanation(text="軽トラの語"))
    assert (written.text, written.language, written.method) == ("kei trucks", "en", "person")
    assert japanese.language == "ja"
    assert write_explanation(run, 1, 3, "Ann", NewExplanation(text="kei trucks")) == written
    assert explanations(run).items == [written, japanese]
    assert explanations(Store(run.store).run(RUN)).items == explanations(run).items


def test_votes_and_scores_are_those_given_last_and_choose_the_best(run: Run):
    first, second = of_model(0, 2, "vehicles"), of_model(0, 2, "soup")
    assert add_explanations(run, [first, second, of_model(0, 3, "rain")]) == 3
    assert add_explanations(run, [first]) == 0
    add_scores(run, [NewScore(first, score(0.9)), NewScore(first, score(0.6)), NewScore(second, score(0.8))])
    add_scores(run, [NewScore(first, score(0.7, "tiny")), NewScore(first, score(1.0, protocol="fuzzing"))])
    stored = {row.text: row for row in feature_explanations(run, 0, 2)}
    assert list(stored) == ["soup", "vehicles"]
    assert stored["vehicles"].score == pytest.approx(0.65)
    assert len(stored["vehicles"].scores) == 3

    assert vote(run, 0, 2, first.id, "Ann", VoteChange(value=1)).votes[0].value == 1
    size = log_of(run).stat().st_size
    vote(run, 0, 2, first.id, "Ann", VoteChange(value=1))
    assert log_of(run).stat().st_size == size  # nothing has changed
    assert best_explanations(run, [(0, 2), (0, 9), (7, 7)])[0, 2].text == "vehicles"
    vote(run, 0, 2, first.id, "Bob", VoteChange(value=-1))
    assert best_explanations(run, [(0, 2)])[0, 2].text == "soup"
    vote(run, 0, 2, first.id, "Bob", VoteChange(value=0))
    assert [(row.author, row.value) for row in explanations(run, feature=2, q="vehicles").items[0].votes] == [
        ("Ann", 1)
    ]
    person = write_explanation(run, 0, 2, "Ann", NewExplanation(text="cars"))
    vote(run, 0, 2, first.id, "Ann", VoteChange(value=0))
    assert feature_explanations(run, 0, 2)[0] == person


def test_an_author_deletes_what_is_theirs(run: Run):
    written = write_explanation(run, 1, 3, "Ann", NewExplanation(text="kei trucks"))
    with pytest.raises(NotFoundError, match="of 'Ann', not of 'Bob'"):
        delete_explanation(run, 1, 3, written.id, "Bob")
    with pytest.raises(NotFoundError, match="no explanation"):
        delete_explanation(run, 1, 4, written.id, "Ann")
    vote(run, 1, 3, written.id, "Bob", VoteChange(value=1))
    delete_explanation(run, 1, 3, written.id, "Ann")
    assert explanations(run).items == []
    assert write_explanation(run, 1, 3, "Ann", NewExplanation(text="kei trucks")).votes == []


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({}, ["0:1 kei trucks", "0:1 味噌汁", "1:2 rain", "2:39 Ｋｅｉ ﾄﾗｯｸ"]),
        ({"layer": 0}, ["0:1 kei trucks", "0:1 味噌汁"]),
        ({"feature": 2}, ["1:2 rain"]),
        ({"method": "person"}, ["2:39 Ｋｅｉ ﾄﾗｯｸ"]),
        ({"method": "terms"}, []),
        ({"author": "tiny", "layer": 1}, ["1:2 rain"]),
        ({"language": "ja"}, ["0:1 味噌汁", "2:39 Ｋｅｉ ﾄﾗｯｸ"]),
        ({"min_score": 0.8}, ["1:2 rain"]),
        ({"min_score": 0.95}, []),
        ({"q": "KEI"}, ["0:1 kei trucks", "2:39 Ｋｅｉ ﾄﾗｯｸ"]),
        ({"q": "kei トラック"}, ["2:39 Ｋｅｉ ﾄﾗｯｸ"]),
    ],
)
def test_explanations_are_filtered(run: Run, filters: dict[str, object], expected: list[str]):
    write_explanation(run, 2, 39, "Ann", NewExplanation(text="Ｋｅｉ ﾄﾗｯｸ"))
    rain = of_model(1, 2, "rain")
    add_explanations(run, [rain, of_model(0, 1, "味噌汁", "ja"), of_model(0, 1, "kei trucks")])
    add_scores(run, [NewScore(rain, score(0.9))])
    rows = explanations(run, **filters).items  # pyright: ignore
    assert sorted(f"{row.layer}:{row.feature} {row.text}" for row in rows) == sorted(expected)


def test_pages_go_on_where_the_last_one_ended_whatever_was_written_between(run: Run):
    add_explanations(run, [of_model(1, feature, f"text {feature}") for feature in range(7)])
    first = explanations(run, limit=3)
    assert [row.feature for row in first.items] == [0, 1, 2]
    delete_explanation(run, 1, 2, first.items[2].id, "tiny")
    add_explanations(run, [of_model(0, 9, "earlier")])
    second = explanations(run, limit=3, cursor=first.next)
    third = explanations(run, limit=3, cursor=second.next)
    assert [row.feature for row in (*second.items, *third.items)] == [3, 4, 5, 6]
    assert third.next is None
    with pytest.raises(CursorError):
        explanations(run, limit=3, q="text", cursor=first.next)
    with pytest.raises(QueryError, match="1001"):
        explanations(run, limit=1001)
    with pytest.raises(QueryError, match="method"):
        explanations(run, method="magic")  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(
    ("author", "new", "field"),
    [
        (" Ann", NewExplanation(text="x"), "author"),
        ("A\x1b[2J", NewExplanation(text="x"), "author"),
        ("Ann", NewExplanation(text=" \n "), "text"),
        ("Ann", NewExplanation(text="x" * (MAX_EXPLANATION + 1)), "text"),
        ("Ann", NewExplanation(text="\ud800"), "text"),
        ("Ann", NewExplanation(text="x", language="Japanese"), "language"),
    ],
)
def test_a_wrong_value_is_refused_with_its_field(run: Run, author: str, new: NewExplanation, field: str):
    with pytest.raises(QueryError) as raised:
        write_explanation(run, 0, 0, author, new)
    assert raised.value.field == field
    assert explanations(run).items == []
    with pytest.raises(NotFoundError):
        write_explanation(run, 0, 4000, "Ann", NewExplanation(text="x"))


def test_what_a_killed_writer_left_of_a_line_is_ignored_and_then_removed(run: Run):
    written = write_explanation(run, 1, 3, "Ann", NewExplanation(text="whole"))
    whole = log_of(run).read_bytes()
    for half in (b'{"event":"explanation","expl', b"\xe3\x81"):
        log_of(run).write_bytes(whole + half)
        assert explanations(run).items == [written]
        other = write_explanation(run, 1, 4, "Ann", NewExplanation(text=f"after {half!r}"))
        assert explanations(run).items == [written, other]
        assert log_of(run).read_bytes().startswith(whole + b'{"event"')
        assert half + b"{" not in log_of(run).read_bytes()
    log_of(run).write_bytes(whole[:20])  # not even the first line
    assert explanations(run).items == []
    write_explanation(run, 1, 3, "Ann", NewExplanation(text="again"))
    assert [row.text for row in explanations(run).items] == ["again"]


def test_damaged_lines_are_left_out_and_a_log_of_another_run_is_not_touched(run: Run):
    written = write_explanation(run, 1, 3, "Ann", NewExplanation(text="whole"))
    lines = log_of(run).read_bytes().splitlines(keepends=True)
    event = lines[1]
    strange = [
        b"{}\n",
        b"\xff\n",
        b'"' + b"x" * log_file.MAX_LINE + b'"\n',
        event.replace(b'"layer":1', b'"layer":9'),
        event.replace(b'"feature":3', b'"feature":4000'),
        event.replace(b'"feature":3', b'"feature":-3'),
        b"[" * 100_000 + b"\n",
    ]
    log_of(run).write_bytes(b"".join([lines[0], *strange, event, *strange]))
    assert explanations(run).items == [written]
    foreign = b"".join(lines).replace(run.manifest.fingerprint.encode(), b"0" * 64)
    log_of(run).write_bytes(foreign)
    assert explanations(run).items == []
    with pytest.raises(StoreError, match="another run"):
        write_explanation(run, 1, 3, "Ann", NewExplanation(text="x"))
    assert log_of(run).read_bytes() == foreign


@pytest.mark.parametrize("linked", ["root", "run", "log", "pipe"])
def test_a_link_is_neither_read_nor_written(run: Run, tmp_path: Path, linked: str):
    write_explanation(run, 1, 3, "Ann", NewExplanation(text="whole"))
    path = {"root": log_of(run).parent.parent, "run": log_of(run).parent}.get(linked, log_of(run))
    shutil.move(path, tmp_path / "elsewhere")
    if linked == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to(tmp_path / "elsewhere")
    before = {file: file.read_bytes() for file in (tmp_path / "elsewhere").rglob("*.jsonl")}
    assert explanations(run).items == []
    with pytest.raises(StoreError):
        write_explanation(run, 1, 4, "Ann", NewExplanation(text="x"))
    assert {file: file.read_bytes() for file in before} == before
    path.unlink()


def test_a_full_disk_leaves_the_log_as_it_was(run: Run, monkeypatch: pytest.MonkeyPatch):
    written = write_explanation(run, 1, 3, "Ann", NewExplanation(text="whole"))
    before = log_of(run).read_bytes()

    def half(descriptor: int, content: bytes, offset: int) -> int:
        if offset > len(before):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(descriptor, content[: len(content) // 2], offset)

    write = os.pwrite
    monkeypatch.setattr(os, "pwrite", half)
    with pytest.raises(DiskFullError, match="no space left"):
        write_explanation(run, 1, 4, "Ann", NewExplanation(text="lost"))
    assert log_of(run).read_bytes() == before
    monkeypatch.undo()
    assert explanations(run).items == [written]
    write_explanation(run, 1, 4, "Ann", NewExplanation(text="stored"))
    assert [row.text for row in explanations(run).items] == ["whole", "stored"]


WRITERS = 3
CHANGES = 20


def write_many(store: Path, writer: int) -> None:
    run = Store(store).run(RUN)
    for number in range(CHANGES):
        written = write_explanation(run, 1, number, f"writer {writer}", NewExplanation(text="x" * 900))
        vote(run, 1, number, written.id, "all", VoteChange(value=1))


def test_processes_write_at_the_same_time(run: Run):
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=write_many, args=(run.store, writer)) for writer in range(WRITERS)]
    for process in processes:
        process.start()
    while any(process.is_alive() for process in processes):
        rows = explanations(run, limit=1000).items  # a reader beside them sees whole lines
        assert all(row.text == "x" * 900 for row in rows)
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * WRITERS
    rows = explanations(run, limit=1000).items
    assert len(rows) == WRITERS * CHANGES
    assert all(len(row.votes) == 1 for row in rows)


def test_explanations_outlive_their_run_and_are_no_garbage(tmp_path: Path):
    make_run(tmp_path, RUN)
    run = Store(tmp_path).run(RUN)
    written = write_explanation(run, 1, 3, "Ann", NewExplanation(text="work"))
    delete_run(tmp_path, RUN)
    assert not [entry for entry in find_garbage(tmp_path, now=4e9) if "explanations" in entry.path.parts]
    make_run(tmp_path, RUN)
    assert explanations(Store(tmp_path).run(RUN)).items == [written]
