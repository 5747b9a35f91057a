"""PostgreSQL with the rows of a run and B-tree indexes: the peer of `benchmarks.store`.

The server runs as an unprivileged user, listens on a socket of its own, and keeps its data below a given directory.
Rows come from the tables and files of the run.
"""

from __future__ import annotations

import getpass
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
import numpy as np
import pyarrow.parquet as pq

from tegakari.store.disk.layout import DATABASE, layer_file
from tegakari.store.reader import Run

if TYPE_CHECKING:
    import psycopg

BINARIES = Path(os.environ.get("POSTGRES_BINARIES", "/usr/lib/postgresql/15/bin"))

SETTINGS = {
    "shared_buffers": "2GB",
    "work_mem": "64MB",
    "maintenance_work_mem": "1GB",
    "random_page_cost": "1.1",
    "jit": "off",
    "max_parallel_workers_per_gather": "0",
    "max_parallel_maintenance_workers": "1",
    "autovacuum": "off",
    # No write-ahead log of the load: only reads are timed.
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_wal_size": "8GB",
    "fsync": "off",
    "full_page_writes": "off",
}

TABLES = """
CREATE TABLE labels (label_id int4, label text, documents int4);
CREATE TABLE documents (document int4, id text, label_id int4, predicted_id int4, text text,
    token_ids int4[], token_starts int4[], token_ends int4[]);
CREATE TABLE features (layer int2, feature int2, density float8, active_positions int8, mean_activation float8,
    max_activation float4, variety_head int4, variety_max int4, variety_mean int4, top_tokens text[]);
CREATE TABLE feature_labels (label_id int2, layer int2, feature int2, mean_head float4, sd_head float4, d_head float4,
    mean_max float4, sd_max float4, d_max float4, mean_mean float4, sd_mean float4, d_mean float4);
CREATE TABLE top_tokens (layer int2, feature int2, rank int2, "position" int2, activation float4, document int4,
    token_id int4, char_start int4, char_end int4, token text);
CREATE TABLE activations (layer int2, feature int2, document int4, activation float4);
"""

INDEXES = """
CREATE UNIQUE INDEX ON labels (label_id);
CREATE UNIQUE INDEX ON labels (label);
CREATE UNIQUE INDEX ON documents (document);
CREATE UNIQUE INDEX ON features (layer, feature);
CREATE INDEX ON feature_labels (label_id, d_head DESC, layer, feature) INCLUDE (mean_head, sd_head);
CREATE INDEX ON feature_labels (layer, feature);
CREATE INDEX ON top_tokens (layer, feature, rank);
CREATE INDEX ON activations (layer, feature, activation DESC, document);
VACUUM (ANALYZE);
"""

LABEL_FEATURES = """
SELECT t.layer, t.feature, d_head, mean_head, sd_head, variety_head, density, max_activation, top_tokens
FROM (SELECT layer, feature, d_head, mean_head, sd_head FROM feature_labels
      WHERE label_id = (SELECT label_id FROM labels WHERE label = %s)
      ORDER BY d_head DESC, layer, feature LIMIT %s) t
JOIN features f ON f.layer = t.layer AND f.feature = t.feature ORDER BY d_head DESC, t.layer, t.feature
"""

FEATURE = """
SELECT density, active_positions, mean_activation, max_activation, variety_head
FROM features WHERE layer = %s AND feature = %s
"""

FEATURE_LABELS = """
SELECT label, d_head, mean_head, sd_head, documents FROM feature_labels JOIN labels USING (label_id)
WHERE layer = %s AND feature = %s ORDER BY d_head DESC, label_id
"""

FEATURE_TOKENS = """
SELECT rank, activation, id, label, "position", token_id, token,
       substr(text, greatest(char_start - 39, 1), least(char_start, 40)), substr(text, char_end + 1, 40)
FROM top_tokens JOIN documents USING (document) JOIN labels USING (label_id)
WHERE layer = %s AND feature = %s AND rank <= %s ORDER BY rank
"""

FEATURE_DOCUMENTS = """
SELECT activation, id, l.label, p.label, substr(text, 1, 80)
FROM (SELECT document, activation FROM activations WHERE layer = %s AND feature = %s
      ORDER BY activation DESC, document LIMIT %s) a
JOIN documents d USING (document) JOIN labels l ON l.label_id = d.label_id JOIN labels p ON p.label_id = predicted_id
ORDER BY activation DESC, document
"""


def available() -> bool:
    """Whether PostgreSQL and its driver are installed."""
    try:
        import psycopg
    except ImportError:
        return False
    return (BINARIES / "postgres").is_file() and bool(psycopg)


@contextmanager
def server(data: Path) -> Iterator[psycopg.Connection[Any]]:
    """Run a server on a data directory, which is created if missing, and connect to it."""
    import psycopg

    user = "postgres" if os.geteuid() == 0 else getpass.getuser()
    sockets = Path(tempfile.mkdtemp(prefix="pg-"))
    if os.geteuid() == 0:  # PostgreSQL refuses to run as root
        owner = pwd.getpwnam(user)
        os.chown(sockets, owner.pw_uid, owner.pw_gid)
        data.mkdir(parents=True, exist_ok=True)
        os.chown(data, owner.pw_uid, owner.pw_gid)
    as_user: dict[str, Any] = {"user": user} if os.geteuid() == 0 else {}
    if not (data / "PG_VERSION").exists():
        initdb = [
            BINARIES / "initdb",
            "-D",
            data,
            "-U",
            "tegakari",
            "--auth=trust",
            "--no-sync",
            "-E",
            "UTF8",
            "--locale=C",
        ]
        subprocess.run(initdb, check=True, capture_output=True, cwd="/", **as_user)
    options = [part for name, value in SETTINGS.items() for part in ("-c", f"{name}={value}")]
    command = [BINARIES / "postgres", "-D", data, "-k", sockets, "-c", "listen_addresses=", *options]
    log = (data.parent / "postgres.log").open("w")
    process = subprocess.Popen(command, stdout=log, stderr=log, cwd="/", **as_user)
    try:
        for _ in range(300):
            try:
                connection = psycopg.connect(host=str(sockets), user="tegakari", dbname="postgres", autocommit=True)
                break
            except psycopg.OperationalError:
                if process.poll() is not None:
                    raise
                time.sleep(0.1)
        else:
            raise TimeoutError("PostgreSQL did not start")
        with connection:
            yield connection
    finally:
        process.send_signal(signal.SIGINT)
        process.wait()
        log.close()
        shutil.rmtree(sockets, ignore_errors=True)


def load(connection: psycopg.Connection[Any], run: Run) -> None:
    """Load a run unless it is loaded."""
    loaded = connection.execute("SELECT to_regclass('loaded')").fetchone()
    if (
        loaded
        and loaded[0]
        and connection.execute("SELECT fingerprint FROM loaded").fetchone() == (run.manifest.fingerprint,)
    ):
        return
    connection.execute(("DROP SCHEMA public CASCADE; CREATE SCHEMA public;" + TABLES).encode())
    _load_rows(connection, run, "labels", "label_id, label, documents")
    _load_rows(
        connection, run, "documents", "document, id, label_id, predicted_id, text, token_ids, token_starts, token_ends"
    )
    _load_rows(
        connection,
        run,
        "features",
        "layer, feature, density, active_positions, mean_activation, max_activation, variety_head, variety_max, "
        "variety_mean, top_tokens",
    )
    for layer in run.manifest.saes.layers:
        _load_rows(
            connection,
            run,
            "top_tokens",
            "layer, feature, rank, position, activation, document, token_id, char_start, char_end, token",
            f"WHERE layer = {layer}",
        )
        table = pq.ParquetFile(layer_file(run.directory, layer)).read()
        columns = {name: table[name].to_numpy() for name in ("feature", "document", "activation")}
        kinds = {"layer": ">i2", "feature": ">i2", "document": ">i4", "activation": ">f4"}
        _copy_numbers(connection, "activations", kinds, {"layer": np.full(len(table), layer), **columns})
    _load_feature_labels(connection, run)
    for statement in INDEXES.strip().split("\n"):
        connection.execute(statement.encode())
    connection.execute("CREATE TABLE loaded AS SELECT %s::text AS fingerprint", [run.manifest.fingerprint])


def _load_feature_labels(connection: psycopg.Connection[Any], run: Run) -> None:
    names = [f"{name}_{pooling}" for pooling in ("head", "max", "mean") for name in ("mean", "sd", "d")]
    kinds = dict.fromkeys(("label_id", "layer", "feature"), ">i2") | dict.fromkeys(names, ">f4")
    for label_id in range(len(run.labels)):
        table = run.query(f"SELECT {', '.join(kinds)} FROM feature_labels WHERE label_id = $id", {"id": label_id})
        assert not any(table[name].null_count for name in names), "binary COPY below has no nulls"
        _copy_numbers(connection, "feature_labels", kinds, {name: table[name].to_numpy() for name in kinds})


def _copy_numbers(
    connection: psycopg.Connection[Any], table: str, kinds: dict[str, str], columns: dict[str, np.ndarray]
) -> None:
    """COPY columns of numbers in PostgreSQL's binary format, in which the length of a field precedes it."""
    fields: list[Any] = [("fields", ">i2")]
    for name, kind in kinds.items():
        fields += [(f"{name}_bytes", ">i4"), (name, kind)]
    rows = np.empty(len(next(iter(columns.values()))), np.dtype(fields))
    rows["fields"] = len(kinds)
    for name, kind in kinds.items():
        rows[f"{name}_bytes"] = np.dtype(kind).itemsize
        rows[name] = columns[name]
    with connection.cursor().copy(f"COPY {table} FROM STDIN (FORMAT binary)".encode()) as copy:
        copy.write(b"PGCOPY\n\xff\r\n\0" + bytes(8))
        for start in range(0, len(rows), 2**16):
            copy.write(rows[start : start + 2**16].tobytes())
        copy.write(b"\xff\xff")


def _load_rows(connection: psycopg.Connection[Any], run: Run, table: str, columns: str, where: str = "") -> None:
    """COPY rows with texts or lists through CSV; lists become PostgreSQL's array literals."""
    types = {row["column_name"]: row["column_type"] for row in run.rows(f"DESCRIBE {table}")}
    names = columns.split(", ")
    selected = [
        f"'{{' || array_to_string(list_transform({name}, lambda x: to_json(x)::VARCHAR), ',') || '}}'"
        if types[name].endswith("[]")
        else f'"{name}"'
        for name in names
    ]
    with (
        tempfile.TemporaryDirectory() as scratch,
        duckdb.connect(str(run.directory / DATABASE), read_only=True) as tables,
    ):
        rows = f"SELECT {', '.join(selected)} FROM {table} {where}"
        tables.execute(f"COPY ({rows}) TO '{scratch}/rows.csv' (HEADER false, FORCE_QUOTE *)")
        listed = ", ".join(f'"{name}"' for name in names)
        into = f"COPY {table} ({listed}) FROM STDIN (FORMAT csv)".encode()
        with (Path(scratch) / "rows.csv").open("rb") as file, connection.cursor().copy(into) as copy:
            while piece := file.read(2**20):
                copy.write(piece)


def size(connection: psycopg.Connection[Any]) -> int:
    """Bytes of all tables with their indexes."""
    row = connection.execute(
        "SELECT sum(pg_total_relation_size(c.oid)) FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace "
        "WHERE nspname = 'public' AND relkind = 'r'"
    ).fetchone()
    return int(row[0]) if row else 0
