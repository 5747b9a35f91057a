"""Data sets of `datasets` whose rows are a selection of those in their files, with caches beside them."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from tegakari.indexer.corpus import read_documents
from tegakari.indexer.corpus.layouts import parts_of
from tegakari.indexer.corpus.rows import Columns, Row
from tegakari.indexer.corpus.sources import open_source
from tegakari.schemas.errors import CorpusError, TegakariError
from tests.support.corpus_sources import import_file, post, posts, save_to_disk, write_arrow_stream

COLUMNS = Columns("id", "label", "title", "body", "")
ROWS = posts(("食べ物", "cars"), per_label=9)


def save_selection(directory: Path, rows: Sequence[dict[str, Any]], numbers: Sequence[int], **state: Any) -> Path:
    """The layout of `save_to_disk` in old releases: all rows by shard, and the numbers of those selected."""
    save_to_disk(directory, rows)
    half = len(numbers) // 2
    files = []
    for name, part in (("indices-0.arrow", numbers[:half]), ("indices-1.arrow", numbers[half:])):
        table = pa.table({"indices": pa.array(part, pa.uint64())})
        with pa.OSFile(str(directory / name), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table, max_chunksize=2)
        files.append({"filename": name})
    content = json.loads((directory / "state.json").read_text()) | {"_indices_data_files": files} | state
    (directory / "state.json").write_text(json.dumps(content))
    return directory


def ids(source: Path) -> list[object]:
    rows = list(open_source(source, source / "corpus").rows(COLUMNS))
    assert all(isinstance(row, Row) for row in rows)
    return [row.id.decode() if isinstance(row.id, bytes) else row.id for row in rows if isinstance(row, Row)]


def stored_ids(rows: Sequence[dict[str, Any]], shards: int = 2) -> list[str]:
    return [row["id"] for shard in range(shards) for row in rows[shard::shards]]


@pytest.mark.parametrize(
    "numbers",
    [[5, 3, 8, 0, 17, 2], list(range(17, -1, -1)), [1, 1, 0, 1], [], [9], random.Random(1).choices(range(18), k=3000)],
)
def test_the_selected_rows_are_read_in_their_order(tmp_path: Path, numbers: list[int]):
    source = save_selection(tmp_path / "data", ROWS, numbers)
    expected = stored_ids(ROWS)
    assert ids(source) == [expected[number] for number in numbers]


def test_the_name_of_an_old_release_for_the_selection(tmp_path: Path):
    source = save_selection(tmp_path / "data", ROWS, [4, 2])
    state = (source / "state.json").read_text().replace("_indices_data_files", "_indices_files")
    (source / "state.json").write_text(state)
    assert ids(source) == [stored_ids(ROWS)[4], stored_ids(ROWS)[2]]


def test_no_selection_is_all_rows(tmp_path: Path):
    source = save_to_disk(tmp_path / "data", ROWS)
    for empty in ([], None):
        state = json.loads((source / "state.json").read_text()) | {"_indices_data_files": empty, "_indices": None}
        (source / "state.json").write_text(json.dumps(state))
        assert ids(source) == stored_ids(ROWS)


def test_rows_before_and_behind_the_taken_ones_are_not_read(tmp_path: Path):
    source = save_to_disk(tmp_path / "data", ROWS)
    state = json.loads((source / "state.json").read_text())
    state["_data_files"][0] |= {"skip": 4, "take": 3}
    state["_data_files"][1] |= {"skip": 0, "take": 2}
    (source / "state.json").write_text(json.dumps(state))
    stored = stored_ids(ROWS)
    assert ids(source) == [*stored[4:7], *stored[9:11]]


def test_an_import_counts_the_selected_rows(tmp_path: Path):
    source = save_selection(tmp_path / "data", ROWS, [0, 1, 2, 9, 10, 11, 0])
    manifest = import_file(source)
    assert (manifest.rows, manifest.documents) == (7, 6)
    assert [(drop.reason, drop.count) for drop in manifest.dropped] == [("id stands in an earlier row", 1)]
    stored = stored_ids(ROWS)
    assert {document.id for document in read_documents(tmp_path / "corpus")} == {
        stored[number] for number in (0, 1, 2, 9, 10, 11)
    }
    other = save_selection(tmp_path / "other", ROWS, [0, 1, 2, 9, 10, 11])
    assert import_file(other).source_sha256 != manifest.source_sha256


def test_splits_of_a_dictionary_with_selections(tmp_path: Path):
    root = tmp_path / "data"
    save_selection(root / "train", ROWS, [0, 2, 4])
    save_selection(root / "test", ROWS, [1, 3])
    (root / "dataset_dict.json").write_text(json.dumps({"splits": ["train", "test"]}))
    rows = [row for row in open_source(root, tmp_path / "corpus").rows(COLUMNS) if isinstance(row, Row)]
    assert [row.split for row in rows] == ["train"] * 3 + ["test"] * 2
    (root / "dataset_dict.json").unlink()  # each split was saved by itself
    rows = [row for row in open_source(root, tmp_path / "corpus").rows(COLUMNS) if isinstance(row, Row)]
    assert sorted(str(row.split) for row in rows) == ["eval"] * 2 + ["train"] * 3


@pytest.mark.parametrize("name", ["cache-2d0a802b78a30b76.arrow", "cache-2b19246e6ce1cdd0_00003_of_00016.arrow"])
def test_caches_beside_the_data_are_not_data(tmp_path: Path, name: str):
    saved = save_to_disk(tmp_path / "saved", ROWS)
    plain = tmp_path / "plain"
    plain.mkdir()
    write_arrow_stream(plain / "posts-train.arrow", ROWS)
    for directory in (saved, plain):
        write_arrow_stream(directory / name, [row | {"id": f"cache {row['id']}"} for row in ROWS])
    assert ids(saved) == stored_ids(ROWS)
    assert ids(plain) == [row["id"] for row in ROWS]
    for directory in (saved, plain):
        assert [part.path.name for part in parts_of(directory.parent, tmp_path / "corpus")].count(name) == 0


@pytest.mark.parametrize("number", [18, 2**63, 2**64 - 1])
def test_a_number_of_no_row(tmp_path: Path, number: int):
    source = save_selection(tmp_path / "data", ROWS, [0, 1, number])
    with pytest.raises(CorpusError) as caught:
        import_file(source)
    assert caught.value.fix


def test_a_missing_file_of_the_selection(tmp_path: Path):
    source = save_selection(tmp_path / "data", ROWS, [0, 1])
    (source / "indices-1.arrow").unlink()
    with pytest.raises(CorpusError, match=r"lacks indices-1\.arrow"):
        import_file(source)


def test_random_damage_is_imported_or_refused(tmp_path: Path):
    source = save_selection(tmp_path / "data", ROWS, list(range(17, -1, -1)))
    rng, refused = random.Random(3), 0
    for file in sorted(source.glob("*.arrow")):
        content = file.read_bytes()
        for _ in range(40):
            changed = bytearray(content)
            changed[rng.randrange(len(changed))] = rng.choice([0, 1, 127, 128, 255])
            file.write_bytes(changed)
            try:
                manifest = import_file(source)
            except TegakariError:
                refused += 1
            else:
                assert manifest.rows == manifest.documents + sum(drop.count for drop in manifest.dropped)
        file.write_bytes(content)
    assert refused


def test_lists_of_one_label_in_a_selection(tmp_path: Path):
    rows = [row | {"label": [row["label"]]} for row in ROWS] + [post(90, ["a", "b"])]
    source = save_selection(tmp_path / "data", rows, list(range(19)))
    manifest = import_file(source)
    assert (manifest.documents, manifest.labels) == (18, ["cars", "食べ物"])
    assert [(drop.reason, drop.examples) for drop in manifest.dropped] == [
        ("label is a list of several labels", ["row 10"])
    ]
