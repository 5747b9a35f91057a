"""Every row becomes a document or is counted, whatever its content."""

from __future__ import annotations

import hashlib
import json
import random
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tegakari.indexer.corpus import read_documents
from tegakari.indexer.corpus.reasons import Reason
from tegakari.schemas.corpus import Document, Drop, Split
from tegakari.schemas.errors import CorpusError
from tests.support.corpus_sources import import_file, import_rows, post, posts, write_csv, write_jsonl

GOOD = posts()


def drop(reason: Reason, *examples: str, count: int | None = None) -> Drop:
    return Drop(str(reason), len(examples) if count is None else count, list(examples))


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([post(20, ""), post(21, None), post(22, " \u3000\n")], drop(Reason.EMPTY_LABEL, "p020", "p021", "p022")),
        ([post(20, title="", body=" \n"), post(21, title=None, body=None)], drop(Reason.EMPTY_TEXT, "p020", "p021")),
        ([post(0, "cars", title="other")], drop(Reason.DUPLICATE_ID, "p000")),
        ([post(20, id=""), post(21, id=None)], drop(Reason.EMPTY_ID, "line 9", "line 10")),
        ([post(20, split="holdout"), post(21, split="")], drop(Reason.UNKNOWN_SPLIT, "p020", "p021")),
        ([post(20, "lonely")], drop(Reason.SMALL_LABEL, "lonely")),
        ([post(20, body="a\0b"), post(21, label="\0")], drop(Reason.NUL, "line 9", "line 10")),
        ([post(20, body="\ud83d"), post(21, label="\udc80")], drop(Reason.NOT_UNICODE, "line 9", "line 10")),
        ([post(20, body=["a"]), post(21, label={"a": 1})], drop(Reason.NOT_TEXT, "line 9", "line 10")),
    ],
    ids=lambda value: value.reason if isinstance(value, Drop) else "",
)
def test_a_row_that_cannot_be_used_is_counted_with_an_example(tmp_path, rows, expected):
    without_row = import_rows(tmp_path, GOOD)
    manifest = import_rows(tmp_path, GOOD + rows)
    assert manifest.dropped == [expected]
    assert manifest.content_sha256 == without_row.content_sha256
    assert manifest.rows == len(GOOD) + len(rows)


def test_malformed_json_lines_are_counted_with_their_numbers(tmp_path):
    file = write_jsonl(tmp_path / "posts.jsonl", GOOD)
    deep = "[" * 100_000
    number = '{"id": ' + "1" * 10_000 + "}"
    lines = [b"{", b"", b"[1, 2]", b'"text"', b"null", b"{'id': 1}", deep.encode(), number.encode(), b'\xff{"id": 3}']
    file.write_bytes(file.read_bytes() + b"\n".join(lines))
    manifest = import_file(file)
    assert manifest.dropped == [drop(Reason.NOT_JSON, "line 9", "line 11", "line 12", "line 13", "line 14", count=8)]
    assert manifest.rows == len(GOOD) + 8


@pytest.mark.parametrize("name", ["posts.csv", "posts.jsonl"])
def test_broken_utf8_invalidates_one_row(tmp_path, name):
    rows = [*GOOD[:3], post(30, body="MARK"), *GOOD[3:]]
    file = (write_csv if name.endswith("csv") else write_jsonl)(tmp_path / name, rows)
    file.write_bytes(file.read_bytes().replace(b"MARK", "日本".encode("shift_jis")))
    manifest = import_file(file)
    assert manifest.dropped == [drop(Reason.NOT_UNICODE, "line 5" if name.endswith("csv") else "line 4")]
    assert manifest.documents == len(GOOD)


@pytest.mark.parametrize("dictionary", [False, True])
def test_broken_utf8_in_arrow_invalidates_one_row(tmp_path, dictionary):
    table = pa.Table.from_pylist(GOOD)
    bodies = pa.array([b"\xff" if number == 3 else b"good" for number in range(len(GOOD))]).view(pa.string())
    if dictionary:
        bodies = pa.DictionaryArray.from_arrays(pa.array(range(len(GOOD))), bodies)
    table = table.set_column(table.column_names.index("body"), "body", bodies)
    path = tmp_path / "posts.arrow"
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    manifest = import_file(path)
    assert manifest.dropped == [drop(Reason.NOT_UNICODE, "row 4")]
    assert manifest.documents == len(GOOD) - 1


def test_broken_utf8_in_a_column_that_is_not_read_is_ignored(tmp_path):
    file = write_csv(tmp_path / "posts.csv", [row | {"note": "MARK"} for row in GOOD])
    file.write_bytes(file.read_bytes().replace(b"MARK", b"\xff"))
    assert import_file(file).documents == len(GOOD)


def test_ragged_csv_rows_are_counted(tmp_path):
    file = write_csv(tmp_path / "posts.csv", GOOD)
    file.write_bytes(file.read_bytes() + b"x1,food\r\nx2,food,t,b,train,more\r\nx3,food,t,b,train\r\n")
    manifest = import_file(file)
    assert manifest.dropped == [drop(Reason.RAGGED, "line 10", "line 11")]
    assert "x3" in {document.id for document in read_documents(tmp_path / "corpus")}


@pytest.mark.parametrize("broken", ['x,food,"open,b,train', 'x,food,"t"t,b,train'])
@pytest.mark.parametrize("place", [0, 4, 8])
def test_a_quote_without_an_end_invalidates_one_line(tmp_path, broken, place):
    rows = [post(n, f"l{n % 2}", body=f"two\nlines {n}") for n in range(8)]
    file = write_csv(tmp_path / "posts.csv", rows)
    header, *records = file.read_text(encoding="utf-8").split("p0")
    records = ["p0" + record for record in records]
    records.insert(place, broken + "\n")
    file.write_text(header + "".join(records), encoding="utf-8", newline="")
    manifest = import_file(file)
    assert manifest.dropped == [drop(Reason.BAD_QUOTES, f"line {2 + 2 * place}")]
    assert manifest.documents == 8


def test_a_row_beyond_the_limit_is_counted_and_the_next_row_is_read(tmp_path, monkeypatch):
    for module in ("lines", "delimited"):
        monkeypatch.setattr(f"tegakari.indexer.corpus.{module}.MAX_ROW_CHARACTERS", 1000)
    rows = [*GOOD, post(50, body="x" * 5000), post(51)]
    for file in (write_csv(tmp_path / "posts.csv", rows), write_jsonl(tmp_path / "posts.jsonl", rows)):
        manifest = import_file(file)
        assert [(entry.reason, entry.count) for entry in manifest.dropped] == [(str(Reason.TOO_LARGE), 1)]
        assert manifest.documents == len(GOOD) + 1


def test_a_quote_closed_beyond_the_limit_invalidates_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr("tegakari.indexer.corpus.delimited.MAX_ROW_CHARACTERS", 1000)
    rows = [*GOOD, post(50, body="line\n" * 300, split="train"), post(51)]
    manifest = import_file(write_csv(tmp_path / "posts.csv", rows))
    assert manifest.dropped[0] == drop(Reason.TOO_LARGE, "line 10")
    assert "p051" in {document.id for document in read_documents(tmp_path / "corpus")}


def test_long_texts_are_cut_and_counted(tmp_path):
    rows = [post(1, title="ab", body="日本語"), post(2, title="ab", body="日本"), post(3, title="", body="日本語")]
    manifest = import_rows(tmp_path, rows, max_characters=5)
    assert manifest.changed == [drop(Reason.CUT, "p001")]
    assert [document.text for document in read_documents(tmp_path / "corpus")] == ["ab\n日本", "ab\n日本", "日本語"]


def test_an_example_of_a_long_id_is_short(tmp_path):
    manifest = import_rows(tmp_path, [*GOOD, post(1, "", id="x" * 10_000)])
    assert manifest.dropped[0].examples == ["x" * 79 + "…"]


def test_only_outer_white_space_of_labels_is_removed(tmp_path):
    labels = [" food", "food\u3000", "\tfo od\n", "fo od"]
    manifest = import_rows(tmp_path, [post(number, label) for number, label in enumerate(labels)])
    assert manifest.labels == ["fo od", "food"]


def test_the_error_about_a_source_without_documents_counts_the_reasons(tmp_path):
    with pytest.raises(CorpusError, match=r"none of the 3 rows .*1 empty label, 2 split is neither") as caught:
        import_rows(tmp_path, [post(1, ""), post(2, split="x"), post(3, split="y")])
    assert "corpus.split_column" in (caught.value.fix or "")
    assert not (tmp_path / "corpus").exists()


def test_every_reason_is_documented():
    page = (Path(__file__).parents[3] / "docs" / "corpus.md").read_text(encoding="utf-8")
    assert [reason for reason in Reason if f"| {reason} |" not in page] == []


BROKEN = {"\0": Reason.NUL, "\udcff": Reason.NOT_UNICODE, "['z']": Reason.NOT_TEXT}
SPLITS: dict[Any, Split] = {"train": "train", "TEST": "eval", " dev": "eval"}
CELLS: dict[str, list[Any]] = {
    "id": [*(f"p{number}" for number in range(150)), "", None, 7],
    "label": ["a", "a", " a", "b", "b", "c/🙂", "d", "", None, *range(20)],
    "title": ["x", "y", "長い text", 3, "", " ", None, "u", "v", "w"] * 3 + ["\0", "\udcff", ["z"]],
    "body": ["x", "y", "長い text", 3, "", " ", None, "u", "v", "w"] * 3 + ["\0", "\udcff", ["z"]],
    "split": ["train"] * 6 + ["TEST", " dev", "other", None],
}


def rows_of_seed(seed: int, number: int) -> list[dict[str, Any]]:
    rng = random.Random(seed)
    return [{key: rng.choice(values) for key, values in CELLS.items()} for _ in range(number)]


random_rows = st.builds(rows_of_seed, st.integers(0, 2**32), st.integers(0, 120))


def rejection(values: list[Any], seen: set[str]) -> Reason | None:
    """Reason to reject a row of id, label, title, body, split: the first rule that applies."""
    rules = [(BROKEN[str(value)], True) for value in values if str(value) in BROKEN]
    rules += [
        (Reason.EMPTY_ID, values[0] == ""),
        (Reason.EMPTY_LABEL, values[1] == ""),
        (Reason.EMPTY_TEXT, not (str(values[2]) + str(values[3])).strip()),
        (Reason.UNKNOWN_SPLIT, values[4] not in SPLITS),
        (Reason.DUPLICATE_ID, str(values[0]) in seen),
    ]
    return next((reason for reason, applies in rules if applies), None)


def single(documents: list[Document]) -> set[str]:
    counts = Counter(document.label for document in documents)
    return {label for label, count in counts.items() if count == 1}


def apply_rules(
    rows: list[dict[str, Any]], train: int, evaluation: int, seed: int
) -> tuple[list[Document], Counter[str]]:
    """The rules of docs/corpus.md, one after the other on lists of rows."""
    drops: Counter[str] = Counter()
    usable: list[Document] = []
    for row in rows:
        values = ["" if row[key] is None else row[key] for key in CELLS]
        if reason := rejection(values, {document.id for document in usable}):
            drops[reason] += 1
            continue
        text = "\n".join(str(value) for value in values[2:4] if str(value).strip())
        usable.append(Document(str(values[0]), str(values[1]).strip(), SPLITS[values[4]], text))
    drops[Reason.SMALL_LABEL] += len(single(usable))
    usable = [document for document in usable if document.label not in single(usable)]
    usable.sort(key=lambda document: hashlib.sha256(f"{seed}\0{document.id}".encode()).hexdigest())
    drawn: list[Document] = []
    for document in usable:
        before = [other for other in drawn if other[1:3] == document[1:3]]
        if len(before) < (train if document.split == "train" else evaluation):
            drawn.append(document)
        else:
            drops[Reason.NOT_DRAWN] += 1
    unambiguous: list[Document] = []
    for document in drawn:
        same = [other for other in drawn if other.text == document.text]
        if document.split == "eval" and any(other.label != document.label for other in same):
            drops[Reason.OTHER_LABEL] += 1
        elif document.split == "eval" and any(other.split == "train" for other in same):
            drops[Reason.LEAKED] += 1
        else:
            unambiguous.append(document)
    drops[Reason.SMALL_LABEL] += len(single(unambiguous))
    return sorted(document for document in unambiguous if document.label not in single(unambiguous)), +drops


@settings(max_examples=150, deadline=None)
@given(rows=random_rows, train=st.integers(1, 4), evaluation=st.integers(1, 4), seed=st.integers(0, 3))
def test_documents_and_counts_agree_with_the_rules(rows, train, evaluation, seed):
    documents, drops = apply_rules(rows, train, evaluation, seed)
    with TemporaryDirectory() as name:
        directory = Path(name)
        if not documents:
            with pytest.raises(CorpusError):
                import_rows(directory, rows, train_per_label=train, eval_per_label=evaluation, seed=seed)
            return
        manifest = import_rows(directory, rows, train_per_label=train, eval_per_label=evaluation, seed=seed)
        assert read_documents(directory / "corpus") == documents
    assert {entry.reason: entry.count for entry in manifest.dropped} == {str(reason): n for reason, n in drops.items()}
    assert all(1 <= len(entry.examples) <= 5 for entry in manifest.dropped)


@settings(max_examples=60, deadline=None)
@given(
    rows=random_rows,
    split_column=st.sampled_from(["", "split"]),
    id_column=st.sampled_from(["", "id"]),
    train=st.integers(1, 4),
    seed=st.integers(0, 2**40),
)
def test_every_row_is_a_document_or_a_drop(rows, split_column, id_column, train, seed):
    options = {"split_column": split_column, "id_column": id_column, "train_per_label": train, "eval_per_label": 2}
    with TemporaryDirectory() as name:
        directory = Path(name)
        try:
            manifest = import_rows(directory, rows, seed=seed, **options)
        except CorpusError:
            return
        documents = read_documents(directory / "corpus")
        # The order of the rows decides only which of several rows with the same id is used.
        if not id_column:
            random.Random(seed).shuffle(rows)
            assert import_rows(directory, rows, seed=seed, **options).content_sha256 == manifest.content_sha256
    assert manifest.rows == len(rows) == manifest.documents + sum(entry.count for entry in manifest.dropped)
    assert manifest.documents == manifest.train + manifest.eval == len(documents)
    assert len({document.id for document in documents}) == len(documents)
    assert min(Counter(document.label for document in documents).values()) >= 2
    assert json.loads(json.dumps(manifest.labels)) == sorted({document.label for document in documents})
