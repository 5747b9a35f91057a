"""Open a store and its runs for reading. Readers take no locks and see whole runs only."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import structlog

from tegakari.schemas.errors import NotFoundError, StoreError
from tegakari.schemas.run import RunManifest
from tegakari.schemas.tables import TABLES
from tegakari.store.blocks.activations import Activations, Totals, check_file, layer_totals, read_feature, read_layer
from tegakari.store.blocks.mapped import Blocks
from tegakari.store.disk.contents import check_contents
from tegakari.store.disk.layout import CONTENTS, MANIFEST, layer_file, run_directory
from tegakari.store.disk.publish import published_names, read_manifest
from tegakari.store.sql.attach import attach_run
from tegakari.store.suggestion import suggestion

log = structlog.get_logger()


class Run:
    """A published run. Safe to share between threads.

    Files are opened at their first use. Once open they stay readable, even after the run is deleted. If the run is
    deleted or replaced before that, reading raises NotFoundError; files of another run are never read.
    """

    def __init__(self, directory: Path) -> None:
        """Read run.json.

        Raises:
            FileNotFoundError: there is no run in the directory.
            StoreError: the run is damaged or of another format.
        """
        self.directory = directory
        self._manifest_file = str(directory / MANIFEST)
        self._identity, self.manifest = _consistent_manifest(self._manifest_file)
        check_contents(directory, CONTENTS)
        self._per_thread = threading.local()
        self._connecting = threading.Lock()
        self._connection: duckdb.DuckDBPyConnection | None = None

    @property
    def name(self) -> str:
        return self.manifest.run

    @property
    def store(self) -> Path:
        """Directory of the store that the run is published in."""
        return self.directory.parent.parent

    def is_published(self) -> bool:
        """Whether this run is in the store now: neither deleted nor replaced by another one of its name."""
        try:
            return _identity(self._manifest_file) == self._identity
        except FileNotFoundError:
            return False

    @contextmanager
    def opening_files(self) -> Iterator[None]:
        """Open files in the block; they belong to this run if it is published afterwards.

        Raises:
            NotFoundError: the run was deleted or replaced.
            StoreError: a file is damaged.
        """
        failure: Exception | None = None
        try:
            yield
        except Exception as error:  # noqa: BLE001 - raised below: a deleted run explains it
            failure = error
        if not self.is_published():
            raise NotFoundError(
                f"run {self.name!r} was deleted or replaced meanwhile", field="run", fix="repeat the request"
            ) from failure
        if failure is not None:
            if _is_damage(failure):
                raise self.unreadable(failure) from failure
            raise failure

    def unreadable(self, error: Exception) -> StoreError:
        """The error of a run with a damaged file."""
        return StoreError(
            f"run {self.name!r} could not be read: {error}",
            field="run",
            fix=f"`tegakari runs verify {self.name}` names the damaged file",
        )

    def _cursor(self) -> duckdb.DuckDBPyConnection:
        """The calling thread's cursor on the one connection of the process."""
        cursor = getattr(self._per_thread, "cursor", None)
        if cursor is None:
            with self._connecting:
                if self._connection is None:
                    with self.opening_files():
                        opened = _open_database(self.directory)
                    self._connection = opened
            cursor = self._connection.cursor()
            self._per_thread.cursor = cursor
        return cursor

    def query(self, sql: str, parameters: dict[str, Any] | None = None) -> pa.Table:
        """Rows of a trusted SQL query with bound parameters, run on the calling thread's cursor."""
        cursor = self._cursor()
        try:
            return cursor.sql(sql, params=parameters or {}).to_arrow_table()
        except Exception as error:
            if not _is_damage(error):
                raise
            raise self.unreadable(error) from error

    def rows(self, sql: str, parameters: dict[str, Any] | None = None) -> list[dict[str, Any]]:
        """Rows of `query` as dictionaries."""
        return self.query(sql, parameters).to_pylist()

    def row(self, sql: str, parameters: dict[str, Any] | None = None) -> dict[str, Any]:
        """The one row of `query`.

        Raises:
            StoreError: there is another number of rows.
        """
        rows = self.rows(sql, parameters)
        if len(rows) != 1:
            raise self.unreadable(ValueError(f"its database has {len(rows)} rows in place of one"))
        return rows[0]

    @cached_property
    def blocks(self) -> Blocks:
        """The memory-mapped blocks, all opened at once."""
        with self.opening_files():
            return Blocks(self.directory, self.manifest)

    def activations_of(self, layer: int, feature: int) -> Activations:
        """Pooled activations of a feature of the run, by document, as stored.

        Raises:
            NotFoundError: the run was deleted meanwhile.
            StoreError: the file is damaged.
        """
        with self.opening_files():
            return self._checked(layer, read_feature(self._layer_file(layer), feature))

    def layer_activations(self, layer: int) -> Iterator[Activations]:
        """Pooled activations of a layer, as stored, in parts.

        Raises:
            NotFoundError: the run was deleted meanwhile.
            StoreError: the file is damaged.
        """
        with self.opening_files():
            for activations in read_layer(self._layer_file(layer)):
                yield self._checked(layer, activations)

    def activation_totals(self, layer: int) -> Totals:
        """Number of active features and sum of pooled activations of each document in a layer, as stored.

        Raises:
            NotFoundError: the run was deleted meanwhile.
            StoreError: the file is damaged.
        """
        with self.opening_files():
            return layer_totals(self._layer_file(layer), self.manifest.corpus.documents)

    def _layer_file(self, layer: int) -> Path:
        """The activations file of a layer, whose columns and numbers are those of the run."""
        file = layer_file(self.directory, layer)
        check_file(file, self._width(layer), self.manifest.corpus.documents)
        return file

    def _width(self, layer: int) -> int:
        return self.manifest.saes.widths[self.manifest.saes.layers.index(layer)]

    def _checked(self, layer: int, activations: Activations) -> Activations:
        """Activations, whose numbers a file's footer may misstate."""
        sizes = self._width(layer), self.manifest.corpus.documents
        for numbers, size in zip((activations.feature, activations.document), sizes, strict=True):
            if numbers.dtype != np.int32 or (len(numbers) and not 0 <= numbers.min() <= numbers.max() < size):
                raise ValueError(f"the activations of layer {layer} have numbers outside of the run")
        return activations

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """Labels by label_id.

        Raises:
            StoreError: they are not as many as run.json says.
        """
        rows = self.rows("SELECT label_id, label FROM labels ORDER BY label_id")
        ids, labels = ([row[name] for row in rows] for name in ("label_id", "label"))
        if len(ids) != self.manifest.corpus.labels or ids != list(range(len(ids))) or None in labels:
            raise self.unreadable(ValueError("its labels are not those of run.json"))
        return tuple(labels)

    @cached_property
    def label_documents(self) -> tuple[int, ...]:
        """Number of indexed documents of each label, by label_id."""
        counts = tuple(row["documents"] for row in self.rows("SELECT documents FROM labels ORDER BY label_id"))
        if len(counts) != self.manifest.corpus.labels or None in counts:
            raise self.unreadable(ValueError("its labels are not those of run.json"))
        return counts

    @cached_property
    def _label_ids(self) -> dict[str, int]:
        return {label: number for number, label in enumerate(self.labels)}

    def label_id(self, label: str) -> int:
        """Number of a label.

        Raises:
            NotFoundError: the run has no such label.
        """
        try:
            return self._label_ids[label]
        except KeyError:
            raise NotFoundError(
                f"run {self.name!r} has no label {label!r}",
                field="label",
                fix=f"{suggestion(label, self.labels)}labels of the run: {self._some_labels}",
            ) from None

    @property
    def _some_labels(self) -> str:
        """The first labels, for messages."""
        more = len(self.labels) - NAMED_LABELS
        return ", ".join(self.labels[:NAMED_LABELS]) + (f" and {more} more" if more > 0 else "")


def _identity(manifest_file: str) -> tuple[int, int, int]:
    """Inode, time and size of run.json: they distinguish a run from another one published under its name.

    The inode alone does not: file systems give the number of a deleted file to the next one.

    Raises:
        FileNotFoundError: there is no run.
    """
    status = os.lstat(manifest_file)  # of a link, which is refused when it is read. Path would double the cost
    return status.st_ino, status.st_mtime_ns, status.st_size


def _consistent_manifest(manifest_file: str) -> tuple[tuple[int, int, int], RunManifest]:
    """Identity and content of a run.json that was not replaced while it was read."""
    while True:
        identity = _identity(manifest_file)
        try:
            manifest = read_manifest(Path(manifest_file).parent)
        except StoreError:
            if _identity(manifest_file) == identity:
                raise
            continue  # deleted or replaced while it was read
        if _identity(manifest_file) == identity:
            return identity, manifest


def _is_damage(error: Exception) -> bool:
    """Whether an error of DuckDB, NumPy or Arrow means that a file is missing or damaged."""
    if isinstance(error, duckdb.Error):
        # A wrong checksum of a block raises a plain Error; wrong SQL raises one of the other subclasses.
        return type(error) is duckdb.Error or isinstance(error, _DAMAGED_DATABASE)
    return isinstance(error, (OSError, ValueError, pa.ArrowException))


NAMED_LABELS = 20
"""Labels of a run that a message names."""

_DAMAGED_DATABASE = (
    duckdb.IOException,
    duckdb.SerializationException,
    duckdb.InternalException,
    duckdb.FatalException,
)


def _open_database(run: Path) -> duckdb.DuckDBPyConnection:
    """Open a run's database in a separate DuckDB instance, which reads no other file from then on.

    `duckdb.connect(file)` would share one instance per path in the process: while a deleted run is held open, queries
    of a run published under its name would read the old file.
    """
    connection = duckdb.connect(config={"python_enable_replacements": "false"})
    attach_run(connection, run, "run")
    connection.execute("SET allowed_paths = []; SET enable_external_access = false; SET lock_configuration = true")
    for table in TABLES:  # not `USE run`: macros of the database would stand in for functions of DuckDB
        connection.execute(f"CREATE VIEW {table.name} AS FROM run.main.{table.name}")
    return connection


class Store:
    """A directory of runs. Opened runs are cached; every call notices runs that were published or deleted since."""

    def __init__(self, directory: str | Path) -> None:
        self.directory = Path(directory)
        self._open: dict[str, Run] = {}
        self._lock = threading.Lock()

    def names(self) -> list[str]:
        """Names of the published runs, sorted."""
        return published_names(self.directory)

    def remote(self) -> list[RunManifest]:
        """Manifests of runs of the bucket that this store is a cache of, without their files; a store has none."""
        return []

    def runs(self) -> list[Run]:
        """All readable published runs, by name; damaged ones are logged and left out."""
        self._release_deleted()
        runs = []
        for name in self.names():
            try:
                runs.append(self.run(name))
            except NotFoundError:  # deleted between listing and opening
                continue
            except StoreError as error:
                log.warning("run left out", run=name, reason=error.message)
        return runs

    def _release_deleted(self) -> None:
        """Let go of runs that were deleted or replaced; their files are closed once no request uses them."""
        with self._lock:
            for name, run in list(self._open.items()):
                if not run.is_published():
                    del self._open[name]

    def run(self, name: str) -> Run:
        """Open a run; others that were deleted since are released.

        Raises:
            NotFoundError: no such run.
            StoreError: the run is damaged or of another format.
        """
        run = self._open.get(name)
        if run is not None and run.is_published():
            return run
        directory = run_directory(self.directory, name)
        self._release_deleted()
        try:
            with self._lock:
                run = self._open.get(name)
                if run is None or not run.is_published():  # not opened yet, or deleted and published again
                    run = self._open[name] = Run(directory)
                return run
        except FileNotFoundError:
            if published := ", ".join(self.names()):
                fix = f"{suggestion(name, self.names())}published runs: {published}"
            else:
                fix = f"the store {self.directory} has no runs: `tegakari index` publishes one, or name another store"
            raise NotFoundError(f"no run {name!r}", field="run", fix=fix) from None
