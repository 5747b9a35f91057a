"""Views for SQL: each table over all runs, with a `run` column in front."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING

import duckdb
import msgspec
import pyarrow as pa
import structlog

from tegakari.schemas.errors import StoreError
from tegakari.schemas.run import RunManifest
from tegakari.schemas.tables import ACTIVATIONS as ACTIVATIONS_TABLE
from tegakari.schemas.tables import CONTEXTS, LABEL_EFFECTS, TABLES, Column, Table
from tegakari.store.analysis_rows import analysis_row, runs_of
from tegakari.store.blocks.activations import check_file
from tegakari.store.column_types import DUCKDB_TYPES, arrow_schema
from tegakari.store.contexts import context_files
from tegakari.store.disk.contents import check_contents
from tegakari.store.disk.layout import CONTENTS, layer_file, run_directory
from tegakari.store.disk.publish import published_names, read_manifest
from tegakari.store.effects import effect_files
from tegakari.store.note_files import all_notes
from tegakari.store.results import stored_analyses
from tegakari.store.sql.attach import attach_run
from tegakari.store.sql.explanation_rows import EXPLANATIONS, explanation_batches

if TYPE_CHECKING:
    import pyarrow.dataset as ds

log = structlog.get_logger()

RUNS = Table(
    "runs",
    "The published runs.",
    ("run",),
    (
        Column("run", "string", "name"),
        Column("created", "string", "ISO 8601, UTC"),
        Column("fingerprint", "string", "hash of classifier, SAEs, documents and settings"),
        Column("pooling", "string", "the run's pooling: head, max or mean"),
        Column("variety_threshold", "float64", "Cohen's d above which a feature carries a label"),
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
    ("id", "run"),
    (
        Column("id", "string", "hash of kind, runs and settings"),
        Column("kind", "string", "knockout, smallest-set, circuit, variants, specificity or study"),
        Column("run", "string", "run that it is computed from; one row per run"),
        Column("is_default", "bool", "whether its settings are the defaults: the API returns it unless told otherwise"),
        Column("settings_text", "string", "settings that differ from the defaults, in words"),
        Column("created", "string", "ISO 8601, UTC"),
        Column("version", "string", "of tegakari, when it was computed"),
        Column("seconds", "float64", "duration of the computation"),
        Column("size", "int64", "of its files, in bytes"),
        Column("settings", "string", "settings, JSON"),
        Column("result", "string", "result, JSON"),
    ),
)

NOTES = Table(
    "notes",
    "Notes of people on features.",
    ("run", "layer", "feature", "author"),
    (
        Column("run", "string", "run of the feature"),
        Column("layer", "int32", "layer of the feature"),
        Column("feature", "int32", "feature of the layer's SAE"),
        Column("author", "string", "who wrote it"),
        Column("starred", "bool", "whether the author gave the feature a star"),
        Column("tags", "string[]", "tags, in the author's order"),
        Column("text", "string", "the note; empty: none"),
        Column("created", "string", "ISO 8601, UTC"),
        Column("updated", "string", "ISO 8601, UTC: the last change"),
    ),
)

VIEWS = tuple(
    table.name for table in (*TABLES, ACTIVATIONS_TABLE, CONTEXTS, LABEL_EFFECTS, RUNS, ANALYSES, NOTES, EXPLANATIONS)
)
"""Names of the views."""


def named_views(sql: str) -> set[str]:
    """The views that a query can name: those whose name is a word of it, wherever it stands."""
    return set(VIEWS) & set(re.findall("[a-z_]+", sql.lower()))


def add_views(
    connection: duckdb.DuckDBPyConnection, store: Path, runs: Sequence[str], views: Collection[str] = VIEWS
) -> None:
    """Create the views of VIEWS.

    Tables are attached read-only; files and the small tables are registered through Arrow, so that a connection
    without a file system can read them too. A condition on `run` leaves the other runs unread, and no file is opened
    for a view that is left out.

    Args:
        connection: of an instance that may attach files.
        store: the store's directory.
        runs: names of published runs.
        views: names of the views to create, of `VIEWS`.

    Raises:
        StoreError: a run is missing or damaged.
    """
    if not views:
        return
    manifests = {run: read_manifest(run_directory(store, run)) for run in runs}
    tables = [table for table in TABLES if table.name in views]
    sources: dict[Table, list[str]] = {table: [] for table in tables}
    layered = [table for table in (ACTIVATIONS_TABLE, CONTEXTS, LABEL_EFFECTS) if table.name in views]
    sources |= {table: [] for table in layered}
    for number, run in enumerate(runs if sources else ()):
        directory = run_directory(store, run)
        check_contents(directory, CONTENTS)
        if tables:
            with _translate_damage(run):
                attach_run(connection, directory, f"run_{number}")
        for table in tables:
            sources[table].append(f"SELECT '{run}' AS run, * FROM run_{number}.main.{table.name}")
        for table in layered:
            with _translate_damage(run):
                files = _layer_files(table, store, directory, manifests[run])
            if files:
                name = f"{table.name}_{number}"
                connection.register(name, _layers(table, files))
                columns = ", ".join(column.name for column in table.columns)
                sources[table].append(f"SELECT '{run}' AS run, layer, {columns} FROM {name}")
    for table, selects in sources.items():
        union = " UNION ALL BY NAME ".join(selects) or f"SELECT * FROM ({_empty(table, table in layered)})"
        connection.execute(f"CREATE TEMP VIEW {table.name} AS {union}")
    if RUNS.name in views:
        rows = [_row(manifest) for manifest in manifests.values()]
        connection.register(RUNS.name, pa.Table.from_pylist(rows, arrow_schema(RUNS)))
    if ANALYSES.name in views:
        connection.register(
            ANALYSES.name, _FileRows(ANALYSES, _once(ANALYSES, partial(_analyses, store, frozenset(manifests))))
        )
    if NOTES.name in views:
        connection.register(
            NOTES.name, _FileRows(NOTES, _once(NOTES, partial(_notes, store, list(manifests.values()))))
        )

    if EXPLANATIONS.name in views:
        connection.register(EXPLANATIONS.name, _FileRows(EXPLANATIONS, partial(explanation_batches, store, list(runs))))


def _layer_files(table: Table, store: Path, directory: Path, manifest: RunManifest) -> list[Path]:
    """Files of a table with one per layer, which are those of such a run."""
    if table is CONTEXTS:
        return context_files(store, directory, manifest)
    if table is LABEL_EFFECTS:
        return list(effect_files(store, directory, manifest).values())
    files = [layer_file(directory, layer) for layer in manifest.saes.layers]
    for file, width in zip(files, manifest.saes.widths, strict=True):
        check_file(file, width, manifest.corpus.documents)
    return files


def _layers(table: Table, files: Sequence[Path]) -> ds.Dataset:
    """The files of a table, `layer=NN/part-0.parquet`, with their layer as a column."""
    import pyarrow.dataset as ds  # imports pandas where it is installed: 0.3 s that only queries need

    layer = pa.field("layer", pa.int32())
    return ds.dataset(
        files,
        arrow_schema(table).append(layer),
        format="parquet",
        partitioning=ds.partitioning(pa.schema([layer]), flavor="hive"),
        partition_base_dir=str(files[0].parent.parent),
    )


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


def connect(store: Path, runs: Sequence[str], views: Collection[str] = VIEWS) -> duckdb.DuckDBPyConnection:
    """A new connection, in memory, with these views of these runs."""
    connection = duckdb.connect()
    add_views(connection, store, runs, views)
    return connection


def _empty(table: Table, layered: bool) -> str:
    """A SELECT of no rows, for a store without runs, or for a table that none of the runs has."""
    layer = (Column("layer", "int32", ""),) if layered else ()
    nulls = ", ".join(f"NULL::{DUCKDB_TYPES[column.type]} AS {column.name}" for column in (*layer, *table.columns))
    return f"SELECT NULL::VARCHAR AS run, {nulls} LIMIT 0"


def _row(manifest: RunManifest) -> dict[str, object]:
    return {
        "run": manifest.run,
        "created": manifest.created,
        "fingerprint": manifest.fingerprint,
        "pooling": manifest.pooling,
        "variety_threshold": manifest.variety_threshold,
        "documents": manifest.corpus.documents,
        "labels": manifest.corpus.labels,
        "layers": len(manifest.saes.layers),
        "positions": manifest.positions,
        "accuracy": manifest.scores.accuracy,
        "macro_f1": manifest.scores.macro_f1,
    }


class _FileRows:
    """Rows of a view from files, which are read when a query scans the view, and not when it names it only."""

    def __init__(self, table: Table, batches: Callable[[], Iterable[pa.RecordBatch]]) -> None:
        self._schema = arrow_schema(table)
        self._batches = batches

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        """DuckDB asks for a stream per scan, and for others of which it reads the schema only."""
        return pa.RecordBatchReader.from_batches(self._schema, self._batches()).__arrow_c_stream__(requested_schema)


def _once(table: Table, rows: Callable[[], list[dict[str, object]]]) -> Callable[[], Iterable[pa.RecordBatch]]:
    """One batch of rows that are read for the first scan of a view, and kept for the others."""
    read = cache(lambda: pa.RecordBatch.from_pylist(rows(), arrow_schema(table)))

    def batches() -> Iterator[pa.RecordBatch]:
        yield read()

    return batches


def _analyses(store: Path, runs: Collection[str]) -> list[dict[str, object]]:
    """Rows of ANALYSES of these runs."""
    rows: list[dict[str, object]] = []
    published = _published(store)
    for analysis in stored_analyses(store):
        manifest = analysis.manifest
        if not runs_of(analysis, published):
            continue
        try:
            row = msgspec.structs.asdict(analysis_row(analysis, published))
            result = analysis.result_json()
        except StoreError as error:  # a damaged analysis must not hide the others
            log.warning("analysis left out", kind=manifest.kind, key=manifest.key, reason=error.message)
            continue
        row |= {"settings": bytes(manifest.settings).decode(), "result": result}
        rows += [{**row, "run": run.run} for run in manifest.runs if run.run in runs]
    return rows


def _notes(store: Path, runs: Sequence[RunManifest]) -> list[dict[str, object]]:
    """Rows of NOTES of these runs."""
    return [{"run": run.run, **msgspec.structs.asdict(note)} for run in runs for note in all_notes(store, run)]


def _published(store: Path) -> dict[str, RunManifest]:
    """Manifests of the published runs that can be read, by name."""
    manifests = {}
    for name in published_names(store):
        with suppress(FileNotFoundError, StoreError):  # deleted meanwhile, or damaged
            manifests[name] = read_manifest(run_directory(store, name))
    return manifests
