"""Results of functions of a run, kept in memory without keeping the run: they are released with it."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Hashable
from functools import update_wrapper
from typing import Any, Generic, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

_MISSING: Any = object()


def weakly_cached(maxsize: int) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Keep the results that were used last, as `functools.lru_cache` does, but hold runs and their blocks weakly.

    A deleted run has open files, mapped memory and DuckDB's threads; `lru_cache` holds it until other results take its
    place. A result must not hold the run that it is of.

    Args:
        maxsize: number of results.
    """
    return lambda function: update_wrapper(_WeakCache(function, maxsize), function)


class _WeakCache(Generic[P, T]):
    def __init__(self, function: Callable[P, T], maxsize: int) -> None:
        self._function = function
        self._maxsize = maxsize
        self._results: dict[tuple[Hashable, ...], T] = {}
        self._lock = threading.Lock()

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> T:
        key = (*map(self._part, args), *((name, self._part(value)) for name, value in sorted(kwargs.items())))
        with self._lock:
            result = self._results.pop(key, _MISSING)
            if result is not _MISSING:
                self._results[key] = result  # the last one used is the last one dropped
                return result
        result = self._function(*args, **kwargs)
        with self._lock:
            self._results[key] = result
            while len(self._results) > self._maxsize:
                self._results.pop(next(iter(self._results)), None)
        return result

    def _part(self, argument: Any) -> Hashable:
        """An argument as a part of a key: a weak reference if it is compared by identity, as a run is."""
        return weakref.ref(argument, self._drop) if type(argument).__hash__ is object.__hash__ else argument

    def _drop(self, reference: weakref.ref[Any]) -> None:
        """Drop the results of an object that is gone.

        Without the lock: Python may call this at any allocation, also in a thread that holds it. Each step is atomic.
        """
        for key in list(self._results):
            if any(part is reference or (type(part) is tuple and part[-1] is reference) for part in key):
                self._results.pop(key, None)
