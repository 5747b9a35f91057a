"""An analysis is computed once: equal settings on the same runs return the stored result."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import msgspec
import pyarrow as pa

from tegakari.schemas.analysis_kinds import AnalysisKind
from tegakari.schemas.tables import Table
from tegakari.store import Run
from tegakari.store.results import find_analysis, publish_analysis
from tegakari.store.versions import recorded_versions

S = TypeVar("S", bound=msgspec.Struct)
R = TypeVar("R", bound=msgspec.Struct)


def stored_result(store: Path, kind: AnalysisKind[S, R], runs: Sequence[Run], settings: S) -> R | None:
    """Stored result of an analysis; None if it was never computed.

    Args:
        store: the store's directory.
        kind: of the analysis.
        runs: runs that are analysed.
        settings: with defaults filled in.

    Raises:
        StoreError: the stored result is damaged.
    """
    analysis = find_analysis(store, kind, [run.manifest for run in runs], settings)
    return analysis.result(kind) if analysis else None


def stored_or_computed(
    store: Path,
    kind: AnalysisKind[S, R],
    runs: Sequence[Run],
    settings: S,
    compute: Callable[[], tuple[R, Mapping[Table, pa.Table]]],
) -> R:
    """Stored result of an analysis; if there is none, the result is computed and stored.

    Args:
        store: the store's directory.
        kind: of the analysis.
        runs: runs that are analysed.
        settings: with defaults filled in.
        compute: returns the result and its tables; called only if no result is stored.

    Raises:
        StoreError: the stored result is damaged.
        DiskFullError: no space for the result.
    """
    stored = stored_result(store, kind, runs, settings)
    if stored is not None:
        return stored
    started = time.perf_counter()
    result, tables = compute()
    publish_analysis(
        store,
        kind,
        [run.manifest for run in runs],
        settings,
        result,
        tables,
        seconds=round(time.perf_counter() - started, 3),
        versions=recorded_versions(),
    )
    return result
