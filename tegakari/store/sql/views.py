"""Views for SQL: each table over all runs, with a `run` column in front."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import duckdb
import pyarrow as pa

from tegakari.schemas.errors import StoreError
from tegakari.schemas.run import RunManifest
from tegakari.schemas.tables import ACTIVATIONS as ACTIVATIONS_TABLE
from tegakari.schemas.tables import TABLES, Column, Table
from tegakari.store.blocks.activations import check_file
from tegakari.store.column_types import arrow_schema
from tegakari.store.disk.contents import check_contents
from tegakari.store.disk.layout import ACTIVATIONS, CONTENTS, layer_file, run_directory
from tegakari.store.disk.publish import read_manifest
from tegakari.store.results import stored_analyses
from tegakari.store.sql.attach import attach_run

RUNS = Table(
    "runs",
    "The published runs.",
    ("run",),
    (
        Column("run", "string", "name"),
        Column("created", "string", "ISO 8601, UTC"),
        Column("fingerprint", "string", "hash of classifier, SAEs, documents and settings"),
        Column("pooling", "string", "the run's pooling: head, max or mean"),
        Column("documents", "int32", "indexed documents"),
        Column("labels", "int32", "labels"),
        Column("layers", "int32", "indexed layers"),
        Column("positions", "int64", "countable positions indexed"),
        Column("accuracy", "float64", "of the classifier on the indexed documents"),
        Column("macro_f1", "float64", "of the classifier on the indexed documents"),
    ),
)

ANALYSES = Table(
    "analyses",
    "Stored results of analyses; settings and result are JSON, for DuckDB's JSON functions.",
    ("kind", "key", "run"),
    (
        Column("kind", "string", "knockout, smallest-set, circuit, variants, specificity or study"),
        Column("key", "string", "hash of kind, runs and settings"),
        Column("run", "string", "run that it is computed from; one row per run"),
        Column("created", "string", "ISO 8601, UTC"),
        Column("seconds", "float64", "duration of the computation"),
        Column("settings", "string", "settings, JSON"),
        Column("result", "string", "result, JSON"),
    ),
)


VIEWS = tuple(table.name for table in (*TABLES, ACTIVATIONS_TABLE, RUNS, ANALYSES))
"""Names of the views."""


def add_views(connection: duckdb.DuckDBPyConnection, store: Path, runs: Sequence[str]) -> None:
    """Create the views: the tables of `schemas/tables.py`, activations, `runs` and `analyses`.

    Tables are attached read-only; activations and the small tables are registered through Arrow, so that a connection
    without a file system can read them too. A condition on `run` leaves the other runs unread.

    Args:
        connection: of an instance that may attach files.
        store: the store's directory.
        runs: names of published runs.

    Raises:
        StoreError: a run is missing or damaged.
    """
    import pyarrow.dataset as ds  # imports pandas where it is installed: 0.3 s that only queries need

    manifests = {run: read_manifest(run_directory(store, run)) for run in runs}
    sources: dict[Table, list[str]] = {table: [] for table in (*TABLES, ACTIVATIONS_TABLE)}
    hive = ds.partitioning(pa.schema([("layer", pa.int32())]), flavor="hive")
    for number, run in enumerate(runs):
        directory = run_directory(store, run)
        check_contents(directory, CONTENTS)
        files = [layer_file(directory, layer) for layer in manifests[run].saes.layers]
        with _translate_damage(run):
            attach_run(connection, directory, f"run_{number}")
            for file, width in zip(files, manifests[run].saes.widths, strict=True):
                check_file(file, width, manifests[run].corpus.documents)
        for table in TABLES:
            sources[table].append(f"SELECT '{run}' AS run, * FROM run_{number}.main.{table.name}")
        schema = arrow_schema(ACTIVATIONS_TABLE).append(pa.field("layer", pa.int32()))
        base = str(directory / ACTIVATIONS)
        connection.register(
            f"activations_{number}",
            ds.dataset(files, schema, format="parquet", partitioning=hive, partition_base_dir=base),
        )
        sources[ACTIVATIONS_TABLE].append(
            f"SELECT '{run}' AS run, layer, feature, document, activation FROM activations_{number}"
        )
    for table, selects in sources.items():
        union = " UNION ALL BY NAME ".join(selects) or f"SELECT * FROM ({_empty(table)})"
        connection.execute(f"CREATE TEMP VIEW {table.name} AS {union}")
    connection.register(
        "runs", pa.Table.from_pylist([_row(manifest) for manifest in manifests.values()], arrow_schema(RUNS))
    )
    connection.register("analyses", _analyses(store, manifests))


@contextmanager
def _translate_damage(run: str) -> Iterator[None]:
    """Translate errors of libraries, whose texts name files of this machine."""
    try:
        yield
    except (duckdb.Error, pa.ArrowException, OSError, ValueError) as error:
        raise StoreError(
            f"files of run {run} are missing or damaged",
            field="run",
            fix=f"`tegakari runs verify {run}` names them; a query can name the other runs",
        ) from error


def connect(store: Path, runs: Sequence[str]) -> duckdb.DuckDBPyConnection:
    """A new connection, in memory, with the views of these runs."""
    connection = duckdb.connect()
    add_views(connection, store, runs)
    return connection


def _empty(table: Table) -> str:
    """A SELECT of no rows, for a store without runs."""
    names = ", ".join(f"NULL AS {column.name}" for column in table.columns)
    return f"SELECT NULL AS run, {names} LIMIT 0"


def _row(manifest: RunManifest) -> dict[str, object]:
    return {
        "run": manifest.run,
        "created": manifest.created,
        "fingerprint": manifest.fingerprint,
        "pooling": manifest.pooling,
        "documents": manifest.corpus.documents,
        "labels": manifest.corpus.labels,
        "layers": len(manifest.saes.layers),
        "positions": manifest.positions,
        "accuracy": manifest.scores.accuracy,
        "macro_f1": manifest.scores.macro_f1,
    }


def _analyses(store: Path, manifests: dict[str, RunManifest]) -> pa.Table:
    fingerprints = {manifest.run: manifest.fingerprint for manifest in manifests.values()}
    rows = [
        {
            "kind": analysis.manifest.kind,
            "key": analysis.manifest.key,
            "run": run.run,
            "created": analysis.manifest.created,
            "seconds": analysis.manifest.seconds,
            "settings": bytes(analysis.manifest.settings).decode(),
            "result": analysis.result_json(),
        }
        for analysis in stored_analyses(store)
        for run in analysis.manifest.runs
        if fingerprints.get(run.run) == run.fingerprint
    ]
    return pa.Table.from_pylist(rows, arrow_schema(ANALYSES))
