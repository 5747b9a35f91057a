"""Results of analyses that are computed from the store alone, kept in memory: a published run never changes."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from functools import wraps
from typing import ParamSpec, TypeVar

from tegakari.service.observe.metrics import record_lookup
from tegakari.store.weak_cache import weakly_cached

P = ParamSpec("P")
T = TypeVar("T")

CACHED_RESULTS = 32
"""Results in memory per analysis, those used last."""

_computed: ContextVar[bool] = ContextVar("_computed", default=False)
"""Whether the current look-up had to compute."""


def cached_per_run(analysis: Callable[P, T]) -> Callable[P, T]:
    """The analysis of one or two runs, computed once per run or pair of runs; look-ups are counted by its name."""

    @wraps(analysis)
    def compute(*arguments: P.args, **options: P.kwargs) -> T:
        _computed.set(True)
        return analysis(*arguments, **options)

    cached = weakly_cached(CACHED_RESULTS)(compute)

    @wraps(analysis)
    def look_up(*arguments: P.args, **options: P.kwargs) -> T:
        _computed.set(False)
        result = cached(*arguments, **options)
        record_lookup(analysis.__name__, hit=not _computed.get())
        return result

    return look_up
