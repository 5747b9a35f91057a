"""Results of analyses that are computed from the store alone, kept in memory: a published run never changes."""

from __future__ import annotations

from collections.abc import Callable
from typing import ParamSpec, TypeVar

from tegakari.store.weak_cache import weakly_cached

P = ParamSpec("P")
T = TypeVar("T")

CACHED_RESULTS = 32
"""Results in memory per analysis, those used last."""


def cached_per_run(analysis: Callable[P, T]) -> Callable[P, T]:
    """The analysis of one or two runs, computed once per run or pair of runs."""
    return weakly_cached(CACHED_RESULTS)(analysis)
