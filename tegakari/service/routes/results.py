"""Results of analyses for routes: computed once per run from the store, or stored by a command."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import TypeVar

from tegakari.schemas.analysis import AnalysisKind
from tegakari.schemas.errors import NotFoundError
from tegakari.store import Run, Store
from tegakari.store.results import stored_analyses

T = TypeVar("T")

CACHED_RUNS = 32
"""Runs whose results stay in memory, per analysis."""


def cached_per_run(analysis: Callable[[Run], T]) -> Callable[[Run], T]:
    """The analysis with its results of CACHED_RUNS runs cached: a published run never changes."""
    return lru_cache(maxsize=CACHED_RUNS)(analysis)


def latest_result(store: Store, kind: AnalysisKind, run: Run, result_type: type[T]) -> T:
    """The stored result of a kind of analysis that was computed last on a run.

    Raises:
        NotFoundError: none is stored; the fix is the command that computes it.
    """
    for analysis in stored_analyses(store.directory, kind=kind, run=run.manifest):
        return analysis.result(result_type)
    raise NotFoundError(
        f"run {run.name!r} has no stored result of {kind}", field="run", fix=f"`tegakari {kind} --runs {run.name}`"
    )
