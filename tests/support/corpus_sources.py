"""Small sources in every format, written by other code than the importer's, and functions that import them."""

from __future__ import annotations

import csv
import gzip
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tegakari.indexer.corpus import import_corpus
from tegakari.schemas.config import CorpusConfig
from tegakari.schemas.corpus import CorpusManifest

RowCells = dict[str, Any]


def post(number: int, label: object = "food", split: str = "train", **cells: Any) -> RowCells:
    """One row; rows of different numbers differ in every text."""
    base = {"id": f"p{number:03}", "label": label, "title": f"title {number}", "body": f"body {number}", "split": split}
    return base | cells


def posts(labels: Sequence[object] = ("food", "cars"), per_label: int = 4) -> list[RowCells]:
    """Rows of several labels, half of them for training."""
    return [
        post(per_label * index + number, label, "train" if number < per_label / 2 else "eval")
        for index, label in enumerate(labels)
        for number in range(per_label)
    ]


def import_rows(directory: Path, rows: Sequence[RowCells], **settings: Any) -> CorpusManifest:
    """Write rows to a JSONL file in a directory and import it, with the split column unless settings have another."""
    return import_file(write_jsonl(directory / "posts.jsonl", rows), **settings)


def import_file(source: Path, **settings: Any) -> CorpusManifest:
    """Import a file into the directory `corpus` beside it."""
    defaults: dict[str, Any] = {"source": str(source), "path": str(source.parent / "corpus"), "split_column": "split"}
    return import_corpus(CorpusConfig(**(defaults | settings)))


def write_jsonl(path: Path, rows: Sequence[RowCells]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def write_jsonl_gz(path: Path, rows: Sequence[RowCells]) -> Path:
    path.write_bytes(gzip.compress("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()))
    return path


def write_csv(path: Path, rows: Sequence[RowCells], delimiter: str = ",") -> Path:
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]), delimiter=delimiter)
        writer.writeheader()
        writer.writerows(rows)
    return path


def write_parquet(path: Path, rows: Sequence[RowCells]) -> Path:
    pq.write_table(pa.Table.from_pylist(list(rows)), path, row_group_size=3)
    return path


def write_arrow_stream(path: Path, rows: Sequence[RowCells]) -> Path:
    table = pa.Table.from_pylist(list(rows))
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=3)
    return path


def write_arrow_file(path: Path, rows: Sequence[RowCells]) -> Path:
    table = pa.Table.from_pylist(list(rows))
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=3)
    return path


def save_to_disk(directory: Path, rows: Sequence[RowCells], shards: int = 2) -> Path:
    """The layout of `datasets.Dataset.save_to_disk`."""
    directory.mkdir(parents=True)
    names = [f"data-{shard:05}-of-{shards:05}.arrow" for shard in range(shards)]
    for shard, name in enumerate(names):
        write_arrow_stream(directory / name, rows[shard::shards])
    state = {"_data_files": [{"filename": name} for name in names], "_fingerprint": "0", "_split": None}
    (directory / "state.json").write_text(json.dumps(state), encoding="utf-8")
    (directory / "dataset_info.json").write_text("{}", encoding="utf-8")
    return directory


WRITERS: dict[str, Callable[[Path, Sequence[RowCells]], Path]] = {
    "posts.csv": write_csv,
    "posts.tsv": lambda path, rows: write_csv(path, rows, "\t"),
    "POSTS.CSV": write_csv,
    "posts.jsonl": write_jsonl,
    "posts.ndjson": write_jsonl,
    "posts.jsonl.gz": write_jsonl_gz,
    "posts.parquet": write_parquet,
    "stream.arrow": write_arrow_stream,
    "file.arrow": write_arrow_file,
    "saved": save_to_disk,
}
