"""Sources that cannot be imported: the error names the key, the value and the fix, and nothing is written."""

from __future__ import annotations

import gzip
import io
import json
import os
import random
import struct
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tegakari.indexer.corpus import read_documents
from tegakari.schemas.errors import CorpusError, TegakariError
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


def refusal(source: Path, **settings: Any) -> CorpusError:
    with pytest.raises(CorpusError) as caught:
        import_file(source, **settings)
    assert caught.value.field
    assert caught.value.fix
    assert not (source.parent / "corpus").exists()
    return caught.value


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("role", ["id", "label", "title", "body", "split"])
def test_the_error_about_a_missing_column_lists_the_columns(tmp_path, name, role):
    error = refusal(WRITERS[name](tmp_path / name, posts()), **{f"{role}_column": "absent"})
    assert error.field == f"corpus.{role}_column"
    assert "has no column 'absent'" in error.message
    for column in ("id", "label", "title", "body", "split"):
        assert repr(column) in error.message
    assert ('or to ""' in (error.fix or "")) == (role in ("id", "title", "split"))


def test_label_and_body_are_needed(tmp_path):
    source = write_jsonl(tmp_path / "posts.jsonl", posts())
    assert refusal(source, label_column="").field == "corpus.label_column"
    assert refusal(source, body_column="").field == "corpus.body_column"


def test_a_key_of_some_json_objects_is_not_a_missing_column(tmp_path):
    rows = posts()
    del rows[0]["title"]
    assert import_rows(tmp_path, rows).documents == len(rows)


def test_a_column_name_that_occurs_twice(tmp_path):
    file = tmp_path / "posts.csv"
    file.write_text("id,label,label,title,body,split\n1,a,b,t,b,train\n", encoding="utf-8")
    assert "more than one column 'label'" in refusal(file).message


def test_a_missing_source(tmp_path):
    assert "does not exist" in refusal(tmp_path / "absent.csv").message


def test_an_unsupported_format(tmp_path):
    file = tmp_path / "posts.xlsx"
    file.write_bytes(b"PK")
    error = refusal(file)
    assert "has an unsupported format" in error.message
    assert ".parquet" in (error.fix or "")


def test_a_source_that_is_not_a_file(tmp_path):
    os.mkfifo(tmp_path / "posts.csv")
    assert "neither a file nor a directory" in refusal(tmp_path / "posts.csv").message


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_read_permission(tmp_path):
    file = write_csv(tmp_path / "posts.csv", posts())
    file.chmod(0)
    assert "Permission denied" in refusal(file).message


@pytest.mark.parametrize("name", ["posts.csv", "posts.jsonl", "posts.jsonl.gz", "posts.parquet", "posts.arrow"])
def test_an_empty_file(tmp_path, name):
    (tmp_path / name).touch()
    refusal(tmp_path / name)


def test_a_file_without_rows(tmp_path):
    (tmp_path / "posts.csv").write_text("id,label,title,body,split\n\n", encoding="utf-8")
    assert "has no rows" in refusal(tmp_path / "posts.csv").message


def test_a_directory_without_a_data_set(tmp_path):
    directory = tmp_path / "data"
    directory.mkdir()
    assert "only: nothing" in refusal(directory).message
    for name in ("README.md", "model.safetensors"):
        (directory / name).touch()
    assert "only: README.md, model.safetensors" in refusal(directory).message


def test_a_directory_of_several_formats(tmp_path):
    directory = tmp_path / "data"
    directory.mkdir()
    write_csv(directory / "posts.csv", posts())
    write_jsonl(directory / "other.jsonl", posts())
    assert "other.jsonl, posts.csv" in refusal(directory).message


@pytest.mark.parametrize(
    "state", [b"", b"[]", b'{"_data_files": [{"filename": "../../gone.arrow"}]}', b'{"_data_files": 3}']
)
def test_a_saved_data_set_that_is_damaged(tmp_path, state):
    directory = save_to_disk(tmp_path / "data", posts())
    (directory / "state.json").write_bytes(state)
    refusal(directory)


def test_a_saved_data_set_that_lacks_a_file(tmp_path):
    directory = save_to_disk(tmp_path / "data", posts())
    (directory / "data-00001-of-00002.arrow").unlink()
    assert "lacks data-00001-of-00002.arrow" in refusal(directory).message


@pytest.mark.parametrize("damage", ["no gzip", "cut", "checksum", "body"])
def test_bad_gzip(tmp_path, damage):
    content = "".join(json.dumps(post(number)) + "\n" for number in range(500)).encode()
    packed = bytearray(gzip.compress(content))
    match damage:
        case "no gzip":
            packed = bytearray(content)
        case "cut":
            packed = packed[: len(packed) // 2]
        case "checksum":
            packed[-6] ^= 255
        case _:
            packed[len(packed) // 2] ^= 255
    (tmp_path / "posts.jsonl.gz").write_bytes(packed)
    assert refusal(tmp_path / "posts.jsonl.gz").field == "corpus.source"


@pytest.mark.parametrize(("kind", "code"), [(pa.string(), "i"), (pa.large_string(), "q")], ids=str)
@pytest.mark.parametrize("dictionary", [False, True])
def test_arrow_offsets_beyond_the_buffer(tmp_path, kind, code, dictionary):
    rows = posts()
    bodies = pa.array([row["body"] for row in rows], kind)
    table = pa.Table.from_pylist(rows)
    column = bodies.dictionary_encode() if dictionary else bodies
    path = tmp_path / "posts.arrow"
    with pa.OSFile(str(path), "wb") as sink:
        changed = table.set_column(table.column_names.index("body"), "body", column)
        with pa.ipc.new_stream(sink, changed.schema) as writer:
            writer.write_table(changed)
    offsets = list(range(0, 54, 6))
    good, bad = (struct.pack(f"<9{code}", *values) for values in (offsets, [*offsets[:4], 2**30, *offsets[5:]]))
    content = path.read_bytes()
    assert content.count(good) == 1
    path.write_bytes(content.replace(good, bad))
    assert "cannot read" in refusal(path).message


@pytest.mark.parametrize("encoding", ["utf-16", "shift_jis"])
def test_the_error_about_another_encoding_names_it(tmp_path, encoding):
    file = write_csv(tmp_path / "posts.csv", posts(("食べ物", "車")))
    file.write_bytes(file.read_text(encoding="utf-8").encode(encoding))
    error = refusal(file)
    str(error).encode()
    if encoding == "shift_jis":
        assert (error.fix or "").startswith('set corpus.encoding = "cp932"')


def test_the_source_is_not_overwritten(tmp_path):
    source = write_parquet(tmp_path / "documents.parquet", posts())
    before = source.read_bytes()
    with pytest.raises(CorpusError, match="would overwrite its source"):
        import_file(source, path=str(tmp_path))
    assert source.read_bytes() == before


@settings(max_examples=250, deadline=None)
@given(name=st.sampled_from([name for name in WRITERS if name != "saved"]), seed=st.integers(0, 2**32))
def test_a_file_with_random_damage_is_imported_or_refused(tmp_path_factory, name, seed):
    directory = tmp_path_factory.mktemp("damaged")
    file = WRITERS[name](directory / name, posts(("a", "b", "職"), per_label=6))
    rng = random.Random(seed)
    content = bytearray(file.read_bytes())
    for _ in range(rng.choice([1, 1, 2, 8])):
        place = rng.randrange(len(content) + 1)
        match rng.randrange(4):
            case 0:
                content[place : place + 1] = bytes([rng.choice([0, 10, 34, 44, 128, 255, rng.randrange(256)])])
            case 1:
                content[place:place] = rng.choice([b'"', b"\n", b"\0", b"\xff", b"{"])
            case 2:
                del content[place : place + rng.randrange(1, 20)]
            case _:
                content = content[: max(place, 1)]
    file.write_bytes(content)
    try:
        manifest = import_file(file, split_column=rng.choice(["", "split"]), id_column=rng.choice(["", "id"]))
    except TegakariError as error:
        io.StringIO().write(str(error).encode().decode())
        return
    assert manifest.rows == manifest.documents + sum(drop.count for drop in manifest.dropped)
    assert len(read_documents(directory / "corpus")) == manifest.documents
