"""Small files that decode to far more than they have: refused, or imported in bounded memory."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tegakari.indexer.corpus import decoded_size
from tegakari.indexer.corpus.decoded_size import limited_memory
from tegakari.indexer.corpus.importer import import_corpus
from tegakari.schemas.config import CorpusConfig
from tegakari.schemas.errors import CorpusError

MEGABYTE = 2**20

PROGRAM = """
import resource, sys
import pyarrow.parquet
from tegakari.indexer.corpus.importer import import_corpus
from tegakari.schemas.config import CorpusConfig
from tegakari.schemas.errors import CorpusError
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    manifest = import_corpus(CorpusConfig(source=sys.argv[1], path=sys.argv[2], id_column="", title_column=""))
    outcome = f"imported {manifest.documents} of {manifest.rows}"
except CorpusError as error:
    outcome = f"refused: {error.message} ({error.field}; {error.fix})"
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024 - before // 1024, outcome)
"""


def imported(source: Path, tmp_path: Path) -> tuple[int, str]:
    """MiB that an import took above its start, and its outcome."""
    command = [sys.executable, "-c", PROGRAM, str(source), str(tmp_path / "corpus")]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300)
    size, _, outcome = done.stdout.partition(" ")
    return int(size), outcome


def labels(rows: int) -> pa.Array:
    return pa.array([f"label {number % 2}" for number in range(rows)])


def repeated(text: str, rows: int) -> pa.Array:
    """A column of one text, stored once."""
    return pa.DictionaryArray.from_arrays(pa.array([0] * rows, pa.int32()), pa.array([text]))


def parquet_of_one_text(path: Path) -> None:
    """6.8 GB in 9 KB."""
    table = pa.table({"label": labels(1024), "body": repeated("x" * 6_600_000, 1024)})
    pq.write_table(table, path, compression="zstd", dictionary_pagesize_limit=2**30, store_schema=False)


def batches_of_zeros(rows: int = 40, number: int = 40) -> Iterator[pa.RecordBatch]:
    """64 MB per batch, which compress to a few kilobytes."""
    for _ in range(number):
        yield pa.record_batch({"label": labels(rows), "body": pa.array(["x" * 1_600_000] * rows)})


def parquet_of_equal_bytes(path: Path) -> None:
    """2.5 GB in 300 KB."""
    first, *rest = batches_of_zeros()
    with pq.ParquetWriter(path, first.schema, compression="zstd", use_dictionary=False) as writer:
        for batch in (first, *rest):
            writer.write_batch(batch)


def arrow_of_equal_bytes(path: Path) -> None:
    first, *rest = batches_of_zeros()
    with pa.ipc.new_file(path, first.schema, options=pa.ipc.IpcWriteOptions(compression="zstd")) as writer:
        for batch in (first, *rest):
            writer.write_batch(batch)


def arrow_of_one_text(path: Path) -> None:
    """3.3 GB in 7 MB, without compression."""
    batch = pa.record_batch({"label": labels(500), "body": repeated("x" * 6_600_000, 500)})
    with pa.ipc.new_stream(path, batch.schema) as writer:
        writer.write_batch(batch)


def arrow_of_views(path: Path) -> None:
    """The same with views, all of the same bytes."""
    text = pa.array(["x" * 6_600_000], pa.string_view())
    _, views, data = text.buffers()
    views = pa.py_buffer(views.to_pybytes()[:16] * 500)
    body = pa.Array.from_buffers(pa.string_view(), 500, [None, views, data])
    batch = pa.record_batch({"label": labels(500), "body": body})
    with pa.ipc.new_stream(path, batch.schema) as writer:
        writer.write_batch(batch)


ROWS = "".join(json.dumps({"label": "a", "body": text}) + "\n" for text in ("one", "two"))


def lines_of_lists(path: Path) -> None:
    """21 million lists in a line."""
    value = "[" + ",".join(["[]"] * 15_000_000) + "]"
    path.write_text("".join(f'{{"label": "a", "body": "{text}", "more": {value}}}\n' for text in ("one", "two")))


def a_long_line(path: Path) -> None:
    """A line of 300 MB, beside short ones."""
    with path.open("wb") as stream:
        stream.write(ROWS.encode())
        stream.truncate(300 * MEGABYTE)


def lines_of_depth(path: Path) -> None:
    path.write_text(ROWS + "\n".join(['{"a":' * 100_000, '{"body":' * 400_000, "[" * 3_000_000]) + "\n")


REFUSED: dict[str, tuple[str, Callable[[Path], None]]] = {
    "parquet of equal bytes": ("bomb.parquet", parquet_of_equal_bytes),
    "arrow of equal bytes": ("bomb.arrow", arrow_of_equal_bytes),
    "parquet of one text": ("bomb.parquet", parquet_of_one_text),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_file_that_decodes_to_gigabytes_is_refused(tmp_path: Path, name: str):
    file, write = REFUSED[name]
    write(tmp_path / file)
    assert (tmp_path / file).stat().st_size < MEGABYTE
    size, outcome = imported(tmp_path / file, tmp_path)
    assert outcome.startswith("refused")
    assert "bytes and decodes to" in outcome
    assert "corpus.source" in outcome
    assert size < 500


IMPORTED: dict[str, tuple[str, Callable[[Path], None], str]] = {
    "arrow of one text": ("bomb.arrow", arrow_of_one_text, "imported"),
    "arrow of views": ("bomb.arrow", arrow_of_views, "imported"),
    "lines of lists": ("bomb.jsonl", lines_of_lists, "imported 2 of 2"),
    "a long line": ("bomb.jsonl", a_long_line, "imported 2 of 3"),
    "lines of depth": ("bomb.jsonl", lines_of_depth, "imported 2 of 5"),
}


@pytest.mark.parametrize("name", IMPORTED)
def test_a_large_value_is_imported_in_bounded_memory(tmp_path: Path, name: str):
    file, write, expected = IMPORTED[name]
    write(tmp_path / file)
    size, outcome = imported(tmp_path / file, tmp_path)
    assert outcome.startswith(expected), outcome
    assert size < 600


@pytest.mark.parametrize(
    ("file", "fill"), [("bomb.jsonl.gz", b"\n"), ("bomb.csv.gz", b"a,b\n"), ("bomb.jsonl.gz", b" ")]
)
def test_a_compressed_text_without_end_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str, fill: bytes
):
    monkeypatch.setattr(decoded_size, "FREE_BYTES", MEGABYTE)
    monkeypatch.setattr(decoded_size, "MAX_RATIO", 100)
    (tmp_path / file).write_bytes(gzip.compress(b"label,body\n" + fill * (8 * MEGABYTE)))
    config = CorpusConfig(source=str(tmp_path / file), path=str(tmp_path / "corpus"), id_column="", title_column="")
    with pytest.raises(CorpusError, match="decodes to"):
        import_corpus(config)


def test_the_kernel_refuses_memory_that_a_file_did_not_announce(tmp_path: Path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(CorpusError, match="needs more than"), limited_memory(tmp_path / "file"):
        pa.allocate_buffer(decoded_size.STEP_BYTES + MEGABYTE)
    assert len(pa.allocate_buffer(10 * MEGABYTE)) == 10 * MEGABYTE
