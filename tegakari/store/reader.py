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
import pyarrow as pa
import structlog

from tegakari.schemas.errors import NotFoundError, StoreError
from tegakari.schemas.run import RunManifest
from tegakari.store.blocks.activations import Activations, Totals, layer_totals, read_feature, read_layer
from tegakari.store.blocks.blocks import Blocks, Places
from tegakari.store.disk.layout import DATABASE, MANIFEST, layer_file, run_directory
from tegakari.store.disk.publish import published_names, read_manifest

log = structlog.get_logger()


class Run:
    """A published run. Safe to share between threads.

    Files are opened when they are first asked for. Once open they stay readable, even when the run is deleted; a run
    that is deleted or replaced before that is answered with NotFoundError, never with files of another run.
    """

    def __init__(self, directory: Path) -> None:
        """Read run.json.

        Raises:
            FileNotFoundError: there is no run.
            StoreError: it is damaged or of another format.
        """
        self.directory = directory
        self._manifest_file = str(directory / MANIFEST)
        self._identity, self.manifest = _settled_manifest(self._manifest_file)
        self._per_thread = threading.local()
        self._opening = threading.Lock()
        self._connection: duckdb.DuckDBPyConnection | None = None

    @property
    def name(self) -> str:
        return self.manifest.run

    def is_published(self) -> bool:
        """Whether this very run is in the store now: neither deleted nor replaced by another of its name."""
        try:
            return _identity(self._manifest_file) == self._identity
        except FileNotFoundError:
            return False

    @contextmanager
    def _files_are_this_runs(self) -> Iterator[None]:
        """Around opening files: what was opened belongs to this run, if its run.json is in place afterwards.

        Raises:
            NotFoundError: the run was deleted or replaced.
            StoreError: a file is damaged.
        """
        failure: Exception | None = None
        try:
            yield
        except Exception as error:
            if not _is_damage(error):
                raise
            failure = error
        if not self.is_published():
            raise NotFoundError(
                f"run {self.name!r} was deleted or replaced meanwhile", field="run", fix="ask again"
            ) from failure
        if failure is not None:
            raise self._unreadable(failure) from failure

    def _unreadable(self, error: Exception) -> StoreError:
        return StoreError(
            f"run {self.name!r} could not be read: {error}",
            field="run",
            fix=f"`tegakari runs verify {self.name}` names the damaged file",
        )

    def _cursor(self) -> duckdb.DuckDBPyConnection:
        """The calling thread's cursor on the one connection of the process."""
        cursor = getattr(self._per_thread, "cursor", None)
        if cursor is None:
            with self._opening:
                if self._connection is None:
                    with self._files_are_this_runs():
                        opened = _attach(self.directory / DATABASE)
                    self._connection = opened
            cursor = self._connection.cursor()
            cursor.execute("USE run")
            self._per_thread.cursor = cursor
        return cursor

    def query(self, sql: str, parameters: dict[str, Any] | None = None) -> pa.Table:
        """Run one of the store's own queries with bound parameters, on a cursor of the calling thread."""
        cursor = self._cursor()
        try:
            return cursor.sql(sql, params=parameters or {}).to_arrow_table()
        except Exception as error:
            if not _is_damage(error):
                raise
            raise self._unreadable(error) from error

    def rows(self, sql: str, parameters: dict[str, Any] | None = None) -> list[dict[str, Any]]:
        """As `query`, as Python rows."""
        return self.query(sql, parameters).to_pylist()

    @cached_property
    def blocks(self) -> Blocks:
        """The mapped blocks, all opened at once."""
        with self._files_are_this_runs():
            return Blocks(self.directory, Places(self.manifest.saes.layers, self.manifest.saes.widths))

    def activations_of(self, layer: int, feature: int) -> Activations:
        """Pooled activations of a feature that the run has, by document, as stored.

        Raises:
            NotFoundError: the run was deleted meanwhile.
            StoreError: the file is damaged.
        """
        with self._files_are_this_runs():
            return read_feature(layer_file(self.directory, layer), feature)

    def layer_activations(self, layer: int) -> Iterator[Activations]:
        """Pooled activations of a layer as stored, a part at a time.

        Raises:
            NotFoundError: the run was deleted meanwhile.
            StoreError: the file is damaged.
        """
        with self._files_are_this_runs():
            yield from read_layer(layer_file(self.directory, layer))

    def activation_totals(self, layer: int) -> Totals:
        """Active features and sum of pooled activations of each document in a layer, as stored.

        Raises:
            NotFoundError: the run was deleted meanwhile.
            StoreError: the file is damaged.
        """
        with self._files_are_this_runs():
            return layer_totals(layer_file(self.directory, layer), self.manifest.corpus.documents)

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """Labels by label_id."""
        return tuple(row["label"] for row in self.rows("SELECT label FROM labels ORDER BY label_id"))

    @cached_property
    def label_documents(self) -> tuple[int, ...]:
        """Indexed documents of each label."""
        return tuple(row["documents"] for row in self.rows("SELECT documents FROM labels ORDER BY label_id"))

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
                f"run {self.name!r} has no label {label!r}", field="label", fix="list them with `tegakari labels`"
            ) from None


def _identity(manifest_file: str) -> tuple[int, int, int]:
    """What tells a published run from another that has its name.

    The inode alone is not enough: file systems give the number of a deleted file to the next one.

    Raises:
        FileNotFoundError: there is no run.
    """
    seen = os.stat(manifest_file)  # noqa: PTH116 - asked with every question; Path doubles what it costs
    return seen.st_ino, seen.st_mtime_ns, seen.st_size


def _settled_manifest(manifest_file: str) -> tuple[tuple[int, int, int], RunManifest]:
    """Identity and run.json of one and the same run."""
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
    """Whether DuckDB, NumPy or Arrow say that a file is missing or not as it was written."""
    if isinstance(error, duckdb.Error):
        # A block whose checksum is wrong is a plain Error; wrong SQL is one of its other subclasses.
        return type(error) is duckdb.Error or isinstance(error, _DAMAGED_DATABASE)
    return isinstance(error, (OSError, ValueError, pa.ArrowException))


_DAMAGED_DATABASE = (
    duckdb.IOException,
    duckdb.SerializationException,
    duckdb.InternalException,
    duckdb.FatalException,
)


def _attach(file: Path) -> duckdb.DuckDBPyConnection:
    """Open a database file in an instance of its own.

    `duckdb.connect(file)` would share one instance per path in the process: as long as anyone held a deleted run, a run
    published under its name would be answered from the old file.
    """
    connection = duckdb.connect()
    path = str(file).replace("'", "''")
    connection.execute(f"ATTACH '{path}' AS run (READ_ONLY)")
    return connection


class Store:
    """A directory of runs. Opened runs are kept; a run published or deleted meanwhile is noticed at the next call."""

    def __init__(self, directory: str | Path) -> None:
        self.directory = Path(directory)
        self._open: dict[str, Run] = {}
        self._lock = threading.Lock()

    def names(self) -> list[str]:
        """Names of the published runs, sorted."""
        return published_names(self.directory)

    def runs(self) -> list[Run]:
        """All published runs that can be read, by name; a damaged one must not hide the others."""
        runs = []
        for name in self.names():
            try:
                runs.append(self.run(name))
            except NotFoundError:  # deleted between listing and opening
                continue
            except StoreError as error:
                log.warning("run left out", run=name, reason=error.message)
        return runs

    def run(self, name: str) -> Run:
        """Open a run.

        Raises:
            NotFoundError: no such run.
            StoreError: it is damaged or of a newer format.
        """
        known = self._open.get(name)
        if known is not None and known.is_published():
            return known
        directory = run_directory(self.directory, name)
        try:
            with self._lock:
                known = self._open.get(name)
                if known is None or not known.is_published():  # never seen, or deleted and published anew
                    known = self._open[name] = Run(directory)
                return known
        except FileNotFoundError:
            with self._lock:
                self._open.pop(name, None)  # deleted: its files need not stay open for us
            there = ", ".join(self.names()) or "none"
            raise NotFoundError(f"no run {name!r}", field="run", fix=f"published runs: {there}") from None
