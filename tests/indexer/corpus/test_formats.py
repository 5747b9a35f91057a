"""Formats, encodings and layouts of a source, all of which give the same documents."""

from __future__ import annotations

import gzip
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tegakari.indexer.corpus import read_documents
from tests.support.corpus_sources import (
    WRITERS,
    import_file,
    import_rows,
    post,
    posts,
    save_to_disk,
    write_csv,
    write_jsonl,
    write_parquet,
)

AWKWARD = [
    *posts(),
    post(50, "仕事/求人 🚗", title='a "quoted" title', body='line\nline, with "quotes"\tand a tab'),
    post(51, "仕事/求人 🚗", "eval", title=None, body="windows\r\nline end"),
    post(52, "a?b#c", title="", body="'single', \\backslash\\ \\n"),
    post(53, "a?b#c", "eval", body="\u2028 separators \u0085 \x0b"),
    post(54, "مرحبا", body=" not stripped "),
    post(55, "مرحبا", "eval", body="e\u0301 is not é"),
]


def texts(directory: Path) -> dict[str, str]:
    return {document.id: document.text for document in read_documents(directory / "corpus")}


@pytest.mark.parametrize("name", WRITERS)
def test_all_formats_give_the_same_content_hash(tmp_path, name):
    (tmp_path / "other").mkdir()
    expected = import_rows(tmp_path / "other", AWKWARD)
    manifest = import_file(WRITERS[name](tmp_path / name, AWKWARD))
    assert manifest.rows == manifest.documents == len(AWKWARD)
    assert manifest.dropped == []
    assert manifest.content_sha256 == expected.content_sha256
    assert manifest.source == name


def test_text_is_title_newline_body_to_the_character(tmp_path):
    import_rows(tmp_path, AWKWARD)
    text = texts(tmp_path)
    assert text["p050"] == 'a "quoted" title\nline\nline, with "quotes"\tand a tab'
    assert text["p051"] == "windows\r\nline end"
    assert text["p052"] == "'single', \\backslash\\ \\n"
    assert text["p054"] == "title 54\n not stripped "
    assert text["p055"] == "title 55\ne\u0301 is not é"


def test_without_a_body_the_text_is_the_title_alone(tmp_path):
    import_rows(tmp_path, [post(1, body=""), post(2, body=None), post(3, title=" \n", body="b")])
    assert texts(tmp_path) == {"p001": "title 1", "p002": "title 2", "p003": "b"}


def test_the_title_column_may_be_absent(tmp_path):
    rows = [{key: value for key, value in row.items() if key != "title"} for row in posts()]
    import_rows(tmp_path, rows, title_column="")
    assert texts(tmp_path)["p000"] == "body 0"


def test_columns_have_their_configured_names(tmp_path):
    rows = [
        {"番号": row["id"], "コミュニティ": row["label"], "件名": row["title"], "本文": row["body"]} for row in posts()
    ]
    names = {"id_column": "番号", "label_column": "コミュニティ", "title_column": "件名", "body_column": "本文"}
    manifest = import_file(write_csv(tmp_path / "posts.csv", rows), **names, split_column="")
    assert manifest.documents == 8
    assert texts(tmp_path)["p000"] == "title 0\nbody 0"


@pytest.mark.parametrize("name", ["posts.csv", "posts.jsonl"])
def test_a_byte_order_mark_is_accepted(tmp_path, name):
    file = WRITERS[name](tmp_path / name, posts())
    plain = import_file(file).content_sha256
    file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes())
    assert import_file(file).content_sha256 == plain


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_csv_lines_may_end_in_any_way(tmp_path, end):
    file = tmp_path / "posts.csv"
    lines = [
        "id,label,title,body,split",
        "1,a,t,one,train",
        "",
        "2,a,t,two,eval",
        "3,b,t,three,train",
        "4,b,t,four,eval",
    ]
    file.write_bytes((end.join(lines)).encode())
    assert import_file(file).rows == 4
    assert texts(tmp_path)["4"] == "t\nfour"


def test_csv_may_be_compressed(tmp_path):
    file = write_csv(tmp_path / "posts.csv", AWKWARD)
    plain = import_file(file).content_sha256
    packed = tmp_path / "posts.csv.gz"
    packed.write_bytes(gzip.compress(file.read_bytes()))
    assert import_file(packed).content_sha256 == plain


@pytest.mark.parametrize("name", ["posts.csv", "posts.jsonl", "posts.parquet"])
def test_a_body_of_ten_megabytes(tmp_path, name):
    body = "手掛かり🔎" * 655_360  # 16 bytes each
    rows = [*posts(), post(90, body=body), post(91, body=body + "end")]
    manifest = import_file(WRITERS[name](tmp_path / name, rows), max_characters=10_000_000)
    assert manifest.documents == 10
    assert manifest.changed == []
    assert texts(tmp_path)["p091"] == "title 91\n" + body + "end"


def test_numbers_become_their_digits(tmp_path):
    rows = [post(n, label=n % 2, id=n, title=7, body=True) for n in range(8)]
    import_file(write_parquet(tmp_path / "posts.parquet", rows))
    documents = read_documents(tmp_path / "corpus")
    assert [document.id for document in documents] == [str(n) for n in range(8)]
    assert {document.label for document in documents} == {"0", "1"}
    assert documents[0].text == "7\ntrue"


@pytest.mark.parametrize(
    "kind",
    [
        pa.string(),
        pa.large_string(),
        pa.string_view(),
        pa.binary(),
        pa.large_binary(),
        pa.dictionary(pa.int16(), pa.string()),
    ],
    ids=str,
)
def test_every_arrow_type_that_holds_text(tmp_path, kind):
    values: dict[str, Any] = {key: [row[key] for row in AWKWARD] for key in AWKWARD[0]}
    dictionary = pa.types.is_dictionary(kind)
    table = pa.table(
        {
            key: pa.array(cells).dictionary_encode() if dictionary else pa.array(cells, kind)
            for key, cells in values.items()
        }
    )
    path = tmp_path / "posts.arrow"
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    (tmp_path / "other").mkdir()
    assert import_file(path).content_sha256 == import_rows(tmp_path / "other", AWKWARD).content_sha256


def test_other_arrow_types_are_formatted_or_empty(tmp_path):
    moment = datetime(2024, 5, 1, tzinfo=UTC)
    rows = [post(n, title=moment, body=1.5 if n else float("nan"), extra=[1, 2]) for n in range(3)]
    import_file(write_parquet(tmp_path / "posts.parquet", rows))
    assert set(texts(tmp_path).values()) == {"2024-05-01 00:00:00+00:00\n1.5", "2024-05-01 00:00:00+00:00"}


def test_class_labels_of_a_hugging_face_dataset_become_their_names(tmp_path):
    features = {
        "label": {"names": ["food", "職"], "_type": "ClassLabel"},
        "body": {"dtype": "string", "_type": "Value"},
    }
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    rows = [post(n, label=n % 2) for n in range(4)] + [post(9, label=-1), post(10, label=7)]
    table = pa.Table.from_pylist(rows).replace_schema_metadata(metadata)
    pq.write_table(table, tmp_path / "posts.parquet")
    manifest = import_file(tmp_path / "posts.parquet")
    assert manifest.labels == ["food", "職"]
    assert [(drop.reason, drop.count, drop.examples) for drop in manifest.dropped] == [
        ("empty label", 2, ["p009", "p010"])
    ]


def test_the_splits_of_a_dataset_dict_are_used(tmp_path):
    root = tmp_path / "data"
    rows = [{key: value for key, value in row.items() if key != "split"} for row in posts(per_label=6)]
    parts = {"train": rows[:3] + rows[6:9], "validation": rows[3:4] + rows[9:10], "test": rows[4:5] + rows[10:11]}
    for split, part in (parts | {"unsupervised": rows[5:6] + rows[11:]}).items():
        save_to_disk(root / split, part)
    names = [*parts, "unsupervised"]
    (root / "dataset_dict.json").write_text(json.dumps({"splits": names}), encoding="utf-8")
    manifest = import_file(root, split_column="")
    assert (manifest.train, manifest.eval) == (6, 4)
    assert [(drop.reason, drop.count) for drop in manifest.dropped] == [("split is neither train nor eval", 2)]
    train = {document.id for document in read_documents(tmp_path / "corpus", "train")}
    assert train == {row["id"] for row in parts["train"]}


@pytest.mark.parametrize(
    ("train", "evaluation"),
    [
        ("data/train-00000-of-00001.parquet", "data/test-00000-of-00001.parquet"),
        ("train/0.parquet", "validation/0.parquet"),
        ("Training.parquet", "posts_dev.parquet"),
    ],
)
def test_the_splits_of_a_directory_of_shards_are_used(tmp_path, train, evaluation):
    root = tmp_path / "data"
    rows = posts(per_label=6)
    for name, part in ((train, rows[::2]), (evaluation, rows[1::2])):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        write_parquet(root / name, part)
    (root / "README.md").write_text("# posts", encoding="utf-8")
    (root / ".cache").mkdir()
    (root / ".cache" / "train.csv").write_text("not,this", encoding="utf-8")
    manifest = import_file(root, split_column="")
    assert (manifest.rows, manifest.train, manifest.eval) == (12, 6, 6)
    assert {document.id for document in read_documents(tmp_path / "corpus", "eval")} == {
        row["id"] for row in rows[1::2]
    }


def test_splits_are_sampled_if_there_are_only_training_shards(tmp_path):
    root = tmp_path / "data"
    root.mkdir()
    write_jsonl(root / "train-0.jsonl", posts(per_label=10)[:10])
    write_jsonl(root / "train-1.jsonl", posts(per_label=10)[10:])
    manifest = import_file(root, split_column="", train_per_label=3, eval_per_label=2)
    assert (manifest.rows, manifest.train, manifest.eval) == (20, 6, 4)


def test_the_split_column_takes_precedence_over_names_of_files(tmp_path):
    root = tmp_path / "data"
    root.mkdir()
    write_jsonl(root / "train.jsonl", [post(n, split="eval") for n in range(3)])
    write_jsonl(root / "test.jsonl", [post(n, split="train") for n in range(3, 8)])
    manifest = import_file(root)
    assert (manifest.train, manifest.eval) == (5, 3)


def test_drops_in_a_directory_name_the_file(tmp_path):
    root = tmp_path / "data"
    root.mkdir()
    write_jsonl(root / "a.jsonl", posts())
    (root / "b.jsonl").write_text("{}\nbroken\n", encoding="utf-8")
    examples = {drop.reason: drop.examples for drop in import_file(root).dropped}
    assert examples == {"line is not a JSON object": ["b.jsonl line 2"], "empty id": ["b.jsonl line 1"]}


def test_an_imported_corpus_inside_the_source_directory_is_not_read_again(tmp_path):
    write_parquet(tmp_path / "posts.parquet", posts())
    first = import_file(tmp_path, path=str(tmp_path / "corpus"))
    again = import_file(tmp_path, path=str(tmp_path / "corpus"))
    assert (again.rows, again.content_sha256) == (first.rows, first.content_sha256)
