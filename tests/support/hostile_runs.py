"""Runs that someone else made to harm their reader: each a small change of a run as the indexer writes it."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import duckdb
import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tegakari.schemas.run import RunManifest
from tegakari.store.disk.durable import checksums
from tegakari.store.disk.publish import _encode

HONEST = "honest"
"""Name of the run that the others are copies of."""

SECRET = "the-content-of-a-file-outside"

Change = Callable[[Path], None]


class HostileRun(NamedTuple):
    """A change of a run's directory."""

    change: Change
    shows_itself: bool = False
    """whether the change is a value that readers may show as it is: a run can lie about its own numbers"""


HOSTILE_RUNS: dict[str, HostileRun] = {}
"""By name, which is also the name of the run."""


def copy_run(base: Path, name: str) -> Path:
    """A copy of a run under another name, whose manifest and checksums fit."""
    target = base.parent / name
    shutil.copytree(base, target)
    seal(target, run=name)
    return target


def seal(directory: Path, **changes: Any) -> None:
    """Write run.json with checksums of the files as they are: whoever made the run also made its checksums."""
    manifest = msgspec.json.decode((directory / "run.json").read_bytes(), type=RunManifest)
    manifest = msgspec.structs.replace(manifest, files=checksums(directory, exclude="run.json"), **changes)
    (directory / "run.json").write_bytes(_encode(manifest))


def hostile(
    name: str, *arguments: Any, shows_itself: bool = False
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Register a change, called with the run's directory and the arguments."""

    def register(change: Callable[..., None]) -> Callable[..., None]:
        HOSTILE_RUNS[name] = HostileRun(lambda run: change(run, *arguments), shows_itself)
        return change

    return register


# The database


def statements(run: Path, *sql: str) -> None:
    """Run statements on the database; `$outside` is a file outside of the store."""
    with duckdb.connect(str(run / "index.duckdb")) as connection:
        for statement in sql:
            connection.execute(statement.replace("$outside", str(outside(run))))
    seal(run)


def outside(run: Path) -> Path:
    return run.parent.parent.parent / "outside.txt"


SQL_CHANGES = {
    "view-for-labels": (
        "CREATE TABLE kept AS FROM labels",
        "DROP TABLE labels",
        "CREATE VIEW labels AS SELECT * REPLACE ((SELECT content FROM read_text('$outside')) AS label) FROM kept",
    ),
    "view-for-documents": (
        "CREATE TABLE kept AS FROM documents",
        "DROP TABLE documents",
        "CREATE VIEW documents AS SELECT * REPLACE ((SELECT content FROM read_text('$outside')) AS text) FROM kept",
    ),
    "one-more-view": ("CREATE VIEW more AS FROM read_text('$outside')",),
    "one-more-table": ("CREATE TABLE more AS SELECT 1 AS x",),
    "one-more-schema": ("CREATE SCHEMA more", "CREATE VIEW more.labels AS FROM read_text('$outside')"),
    "macro-for-count": ("CREATE MACRO count(x) AS 42", "CREATE MACRO lower(x) AS 'forged'"),
    "macro-for-an-operator": ('CREATE MACRO "+"(a, b) AS 42', 'CREATE MACRO "="(a, b) AS true'),
    "table-macro": ("CREATE MACRO range(x) AS TABLE FROM read_text('$outside')",),
    "generated-column": (
        "CREATE TABLE kept AS FROM labels",
        "DROP TABLE labels",
        "CREATE TABLE labels (label_id INTEGER, label VARCHAR GENERATED ALWAYS AS (current_setting('home_directory')), "
        "documents INTEGER, precision DOUBLE, recall DOUBLE, f1 DOUBLE, specific_features INTEGER, "
        "shared_features INTEGER)",
    ),
    "column-with-a-check": (
        "DROP TABLE confusion",
        "CREATE TABLE confusion (label_id INTEGER CHECK (label_id > 0), predicted_id INTEGER, documents INTEGER)",
    ),
    "column-of-another-type": ("ALTER TABLE labels ALTER label_id TYPE VARCHAR",),
    "column-of-an-own-type": (
        "CREATE TYPE mood AS ENUM ('eval')",
        "ALTER TABLE documents ALTER split TYPE mood USING 'eval'::mood",
    ),
    "column-missing": ("ALTER TABLE labels DROP COLUMN f1",),
    "column-more": ("ALTER TABLE labels ADD COLUMN more INTEGER",),
    "columns-swapped": (
        "ALTER TABLE labels RENAME COLUMN precision TO kept",
        "ALTER TABLE labels RENAME COLUMN recall TO precision",
        "ALTER TABLE labels RENAME COLUMN kept TO recall",
    ),
    "table-missing": ("DROP TABLE features",),
}

for _name, _sql in SQL_CHANGES.items():
    hostile(_name, *_sql)(statements)

ROW_CHANGES = {
    "labels-missing": ("DELETE FROM labels WHERE label_id = 1",),
    "labels-empty": ("DELETE FROM labels",),
    "labels-twice": ("INSERT INTO labels FROM labels",),
    "label-null": ("UPDATE labels SET label = NULL WHERE label_id = 1",),
    "label-numbers-negative": ("UPDATE labels SET label_id = -label_id",),
    "features-missing": ("DELETE FROM features WHERE feature = 2",),
    "best-label-beyond": ("UPDATE features SET best_label_id = 1000000",),
    "best-label-negative": ("UPDATE features SET best_label_id = -7",),
    "documents-missing": ("DELETE FROM documents",),
    "documents-twice": ("INSERT INTO documents FROM documents",),
}

for _name, _sql in ROW_CHANGES.items():
    hostile(_name, *_sql, shows_itself=True)(statements)


def replaced(run: Path, name: str, content: bytes) -> None:
    (run / name).write_bytes(content)
    seal(run)


hostile("database-empty", "index.duckdb", b"")(replaced)
hostile("database-of-noise", "index.duckdb", bytes(range(256)) * 64)(replaced)
hostile("database-with-a-log", "index.duckdb.wal", b"x" * 100)(replaced)
hostile("file-beside", "sitecustomize.py", b"raise SystemExit")(replaced)


@hostile("database-cut")
def database_cut(run: Path) -> None:
    replaced(run, "index.duckdb", (run / "index.duckdb").read_bytes()[:300_000])


# The manifest


def forged(run: Path, path: tuple[str, ...], value: Any) -> None:
    """Write a value into run.json, with a checksum that fits."""
    manifest = json.loads((run / "run.json").read_bytes())
    at = manifest
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = value
    (run / "run.json").write_text(json.dumps(manifest))


for _name, _path, _value in (
    ("name-of-the-parent", ("run",), ".."),
    ("name-with-a-path", ("run",), "../../outside"),
    ("name-absolute", ("run",), "/etc"),
    ("name-of-another-run", ("run",), HONEST),
    ("name-with-a-line-break", ("run",), "x\ny"),
    ("name-with-an-escape", ("run",), "\x1b[2Jx"),
    ("fingerprint-with-a-path", ("fingerprint",), "../../../../etc/passwd"),
    ("layers-negative", ("saes", "layers"), [-1, 0]),
    ("layers-descending", ("saes", "layers"), [1, 0]),
    ("layers-twice", ("saes", "layers"), [0, 0]),
    ("widths-missing", ("saes", "widths"), [12]),
    ("widths-zero", ("saes", "widths"), [0, 12]),
    ("widths-huge", ("saes", "widths"), [2**40, 12]),
    ("documents-negative", ("corpus", "documents"), -1),
    ("pooling-unknown", ("pooling",), "median"),
    ("file-in-the-parent", ("files",), [{"path": "../../outside.txt", "size": 1, "sha256": "0"}]),
    ("file-absolute", ("files",), [{"path": "/etc/passwd", "size": 1, "sha256": "0"}]),
    ("top-tokens-negative", ("top_tokens",), -5),
    ("format-as-text", ("format",), "3"),
):
    hostile(_name, _path, _value)(forged)

for _name, _path, _value in (
    ("layers-others", ("saes", "layers"), [0, 7]),
    ("widths-swapped", ("saes", "widths"), [13, 11]),
    ("documents-more", ("corpus", "documents"), 13),
    ("documents-fewer", ("corpus", "documents"), 11),
    ("documents-many", ("corpus", "documents"), 2**26),
    ("labels-more", ("corpus", "labels"), 7),
    ("labels-many", ("corpus", "labels"), 2**40),
    ("top-tokens-more", ("top_tokens",), 11),
):
    hostile(_name, _path, _value, shows_itself=True)(forged)

hostile("manifest-of-noise", "run.json", b"\x00\xff")(lambda run, name, content: (run / name).write_bytes(content))
hostile("manifest-deep", "run.json", b"[" * 100_000)(lambda run, name, content: (run / name).write_bytes(content))


# Links and special files


def linked(run: Path, name: str, target: str) -> None:
    """Replace a file or directory by a link; `$outside` is a file outside of the store, `$base` an honest run."""
    path = run / name
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
    path.symlink_to(target.replace("$outside", str(outside(run))).replace("$base", str(run.parent / HONEST)))


for _name, _path, _target in (
    ("link-to-a-database", "index.duckdb", "$base/index.duckdb"),
    ("link-to-a-file-outside", "hot/documents.arrow", "$outside"),
    ("link-to-blocks", "hot", "$base/hot"),
    ("link-to-activations", "activations", "$base/activations"),
    ("link-to-a-layer", "activations/layer=01", "$base/activations/layer=01"),
    ("link-to-a-matrix", "hot/order.npy", "$base/hot/order.npy"),
    ("link-to-a-manifest", "run.json", "$base/run.json"),
    ("link-within", "hot/order.npy", "layer_order.npy"),
    ("link-to-nothing", "hot/order.npy", "nowhere"),
    ("link-to-itself", "hot/order.npy", "order.npy"),
    ("link-to-the-run", "hot/loop", ".."),
    ("link-to-the-root", "vectors.lance", "/"),
    ("link-to-a-device", "hot/documents.arrow", "/dev/zero"),
):
    hostile(_name, _path, _target)(linked)


@hostile("link-for-the-run")
def link_for_the_run(run: Path) -> None:
    shutil.rmtree(run)
    run.symlink_to(run.parent / HONEST)


@hostile("pipe")
def pipe(run: Path) -> None:
    (run / "hot" / "order.npy").unlink()
    os.mkfifo(run / "hot" / "order.npy")


# Blocks


def matrix_changed(run: Path, name: str, change: Callable[[np.ndarray], np.ndarray]) -> None:
    path = run / "hot" / f"{name}.npy"
    np.save(path, change(np.load(path)), allow_pickle=True)
    seal(run)


for _name, _file, _change in (
    ("order-beyond", "order", lambda values: values + 10_000),
    ("order-negative", "order", lambda values: values - 24),
    ("order-minimum", "order", lambda values: np.full_like(values, -(2**31))),
    ("layer-order-of-another-layer", "layer_order", lambda values: values[:, ::-1].copy()),
    ("shown-tokens-beyond", "shown_tokens", lambda values: np.where(values >= 0, values + 10_000, values)),
    ("shown-tokens-negative", "shown_tokens", lambda values: np.where(values >= 0, -2 - values, values)),
    ("top-documents-beyond", "top_token_documents", lambda values: np.where(values >= 0, values + 12, values)),
    ("top-positions-beyond", "top_token_positions", lambda values: values + 500),
    ("top-positions-negative", "top_token_positions", lambda values: -1 - values),
    ("top-positions-maximum", "top_token_positions", lambda values: np.full_like(values, 2**31 - 1)),
    ("strongest-documents-beyond", "top_document_members", lambda values: np.where(values >= 0, values + 12, values)),
    ("strongest-features-beyond", "top_feature_members", lambda values: np.where(values >= 0, values + 12, values)),
    ("matrix-of-another-shape", "order", lambda values: values[:, :-1].copy()),
    ("matrix-of-no-shape", "order", lambda values: np.int32(1)),
    ("matrix-of-float64", "d_head", lambda values: values.astype(np.float64)),
    ("matrix-of-other-bytes", "d_head", lambda values: values.astype(">f4")),
    ("matrix-in-columns", "d_head", np.asfortranarray),
    ("matrix-of-objects", "d_head", lambda values: values.astype(object)),
    ("matrix-of-records", "order", lambda values: values.view([("x", np.int32)])),
):
    hostile(_name, _file, _change)(matrix_changed)


@hostile("matrix-larger-than-its-file")
def matrix_larger_than_its_file(run: Path) -> None:
    path = run / "hot" / "order.npy"
    path.write_bytes(path.read_bytes()[:200])
    seal(run)


@hostile("matrix-with-code-in-its-header")
def matrix_with_code(run: Path) -> None:
    header = b"{'descr': __import__('os').getcwd(), 'fortran_order': False, 'shape': (6, 24)}"
    content = b"\x93NUMPY\x01\x00" + (len(header) + 1).to_bytes(2, "little") + header + b"\n" + bytes(6 * 24 * 4)
    (run / "hot" / "order.npy").write_bytes(content)
    seal(run)


def offsets_changed(run: Path, file: str, column: str, change: Callable[[np.ndarray], None]) -> None:
    """Change the offsets of a column of strings or lists where they lie in the file."""
    path = run / "hot" / f"{file}.arrow"
    content = bytearray(path.read_bytes())
    batch = pa.ipc.open_file(pa.BufferReader(bytes(content))).get_batch(0)
    array = batch[column]
    width = 8 if pa.types.is_large_string(array.type) else 4
    offsets = array.buffers()[1]
    assert offsets is not None
    raw = offsets.to_pybytes()[: (len(array) + 1) * width]
    start = bytes(content).index(raw)
    values = np.frombuffer(raw, f"<i{width}").copy()
    change(values)
    content[start : start + len(raw)] = values.tobytes()
    path.write_bytes(bytes(content))
    seal(run)


def _set(index: int, value: int) -> Callable[[np.ndarray], None]:
    def change(values: np.ndarray) -> None:
        values[index] = value

    return change


for _file_column in ("text", "id", "token_ids", "token_starts"):
    for _name, _change in (
        ("beyond", _set(3, 2**31 - 1)),
        ("negative", _set(3, -5)),
        ("at-the-end", _set(-1, 2**30)),
        ("descending", lambda values: values[1:].sort() or values.__setitem__(slice(None), values[::-1].copy())),
    ):
        hostile(f"offsets-of-{_file_column.replace('_', '-')}-{_name}", "documents", _file_column, _change)(
            offsets_changed
        )
hostile("offsets-of-tokens-beyond", "token_texts", "text", _set(1, 2**31 - 1))(offsets_changed)


def table_changed(run: Path, file: str, change: Callable[[pa.Table], pa.Table | list[pa.RecordBatch]]) -> None:
    path = run / "hot" / f"{file}.arrow"
    with pa.ipc.open_file(pa.BufferReader(path.read_bytes())) as reader:
        changed = change(reader.read_all())
    batches = changed if isinstance(changed, list) else changed.combine_chunks().to_batches()
    with pa.ipc.new_file(str(path), batches[0].schema) as writer:
        for batch in batches:
            writer.write_batch(batch)
    seal(run)


def _cast(table: pa.Table, name: str, type_: pa.DataType) -> pa.Table:
    return table.set_column(table.schema.get_field_index(name), name, table[name].cast(type_))


def _column(name: str, change: Callable[[list[Any]], list[Any]]) -> Callable[[pa.Table], pa.Table]:
    def changed(table: pa.Table) -> pa.Table:
        field = table.schema.field(name)
        values = pa.array(change(table[name].to_pylist()), field.type)
        return table.set_column(table.schema.get_field_index(name), field, values)

    return changed


for _name, _file, _change in (
    ("document-labels-beyond", "documents", _column("label_id", lambda values: [1000] * len(values))),
    ("document-labels-negative", "documents", _column("label_id", lambda values: [-1] * len(values))),
    ("predictions-beyond", "documents", _column("predicted_id", lambda values: [6] * len(values))),
    ("document-ids-null", "documents", _column("id", lambda values: [None, *values[1:]])),
    ("texts-null", "documents", _column("text", lambda values: [None, *values[1:]])),
    ("tokens-null", "documents", _column("token_ids", lambda values: [None, *values[1:]])),
    ("token-starts-negative", "documents", _column("token_starts", lambda values: [[-9] * len(row) for row in values])),
    ("token-ends-missing", "documents", _column("token_ends", lambda values: [row[:-1] for row in values])),
    ("documents-in-parts", "documents", lambda table: table.to_batches(max_chunksize=5)),
    ("documents-short", "documents", lambda table: table.slice(0, 5)),
    (
        "documents-of-other-types",
        "documents",
        lambda table: _cast(table, "text", pa.string()),
    ),
    ("documents-in-another-order", "documents", lambda table: table.select(table.column_names[::-1])),
    ("features-renumbered", "features", _column("feature", lambda values: values[::-1])),
    ("features-null", "features", _column("density", lambda values: [None, *values[1:]])),
    ("features-short", "features", lambda table: table.slice(0, 5)),
    ("features-renamed", "features", lambda table: table.rename_columns([f"{name}_" for name in table.column_names])),
    ("token-texts-short", "token_texts", lambda table: table.slice(0, 1)),
    ("token-texts-null", "token_texts", _column("text", lambda values: [None] * len(values))),
):
    hostile(_name, _file, _change)(table_changed)


@hostile("texts-not-utf8")
def texts_not_utf8(run: Path) -> None:
    path = run / "hot" / "documents.arrow"
    content = path.read_bytes()
    text = pa.ipc.open_file(pa.BufferReader(content)).get_batch(0)["text"][0].as_py().encode()
    path.write_bytes(content.replace(text, b"\xff" * len(text)))
    seal(run)


@hostile("arrow-cut")
def arrow_cut(run: Path) -> None:
    path = run / "hot" / "documents.arrow"
    path.write_bytes(path.read_bytes()[:2000])
    seal(run)


# Activations


def activations_changed(run: Path, change: Callable[[pa.Table], pa.Table]) -> None:
    path = run / "activations" / "layer=01" / "part-0.parquet"
    pq.write_table(change(pq.ParquetFile(path).read()), path)
    seal(run)


for _name, _change in (
    ("activations-of-other-types", lambda table: _cast(table, "document", pa.int64())),
    ("activations-of-other-columns", lambda table: table.select(["feature", "document"])),
    ("activations-of-documents-beyond", _column("document", lambda values: [value + 1000 for value in values])),
    ("activations-of-documents-negative", _column("document", lambda values: [-1 - value for value in values])),
    ("activations-of-features-beyond", _column("feature", lambda values: [value + 1000 for value in values])),
    ("activations-null", _column("document", lambda values: [None, *values[1:]])),
    ("activations-many", lambda table: pa.concat_tables([table] * 50)),
):
    hostile(_name, _change)(activations_changed)


@hostile("activations-without-bounds")
def activations_without_bounds(run: Path) -> None:
    path = run / "activations" / "layer=01" / "part-0.parquet"
    table = pq.ParquetFile(path).read()
    changed = _column("document", lambda values: [value + 1000 for value in values])(table)
    pq.write_table(changed, path, write_statistics=False)
    seal(run)


hostile("activations-of-noise", "activations/layer=01/part-0.parquet", b"PAR1" + b"\xff" * 400 + b"PAR1")(replaced)
