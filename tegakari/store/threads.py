"""A function of many items, on threads of this process."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import TypeVar

Item = TypeVar("Item")


def on_threads(
    function: Callable[[Item], object], items: Iterable[Item], *, name: str, threads: int | None = None
) -> Iterator[Item]:
    """Call a function for each item, and yield each item when its call is done.

    Python's own code runs on one thread at a time: the function should spend its time in compiled code that releases
    the GIL.

    Args:
        function: safe to be called on several threads.
        items: to call it for.
        name: prefix of the threads' names.
        threads: calls at a time; default: one per core.

    Raises:
        Exception: of a call; calls that have not begun are given up, and those that have are awaited.
    """
    with ThreadPoolExecutor(threads or os.cpu_count(), thread_name_prefix=name) as pool:
        pending = {pool.submit(function, item): item for item in items}
        try:
            for future in as_completed(pending):
                future.result()
                yield pending[future]
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
