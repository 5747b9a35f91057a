"""Transfers in several threads: they end together at the first failure, and report MiB."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from typing import TypeVar

from tegakari.schemas.progress import CancelledWorkError, Progress

T = TypeVar("T")

MIB = 2**20


class Transfers:
    """The progress of transfers, and their end."""

    def __init__(self, progress: Progress, name: str, total: int, done: int) -> None:
        """Begin a stage.

        Args:
            progress: receives MiB.
            name: of the stage.
            total: bytes of all transfers.
            done: bytes that earlier attempts have moved.
        """
        self._progress = progress
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._bytes = done
        self._reported = done // MIB
        progress.stage(f"{name}, MiB", max(1, -(-total // MIB)), done=self._reported)

    def moved(self, count: int) -> None:
        """Report bytes that were moved.

        Raises:
            CancelledWorkError: another transfer has failed, or the work was cancelled.
        """
        if self._stopping.is_set():
            raise CancelledWorkError
        with self._lock:
            self._bytes += count
            steps = self._bytes // MIB - self._reported
            if steps > 0:
                self._reported += steps
                self._progress.advance(steps)

    def run(self, transfer: Callable[[T], None], items: Iterable[T], threads: int) -> None:
        """Call a function for every item; the first error ends the other calls at their next chunk.

        Raises:
            Exception: the first error.
        """
        with ThreadPoolExecutor(threads) as pool:
            futures = [pool.submit(transfer, item) for item in items]
            try:
                done, _ = wait(futures, return_when=FIRST_EXCEPTION)
                failures = [error for future in done if (error := future.exception()) is not None]
                for error in sorted(failures, key=lambda error: isinstance(error, CancelledWorkError)):
                    raise error
            finally:  # also after Ctrl-C
                self._stopping.set()
                pool.shutdown(wait=False, cancel_futures=True)
