"""Shards in several processes of this machine: each loads the models and indexes one shard after the other."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool

import torch

from tegakari.indexer.executors.executor import WorkerSettings
from tegakari.indexer.executors.in_process import InProcess
from tegakari.indexer.index_models import IndexModels
from tegakari.indexer.shard import Shard
from tegakari.indexer.shard_writer import ShardWriter
from tegakari.schemas.errors import StoreError
from tegakari.store.processes import end_with_parent


class Processes:
    """Executor of new processes, which share this process' number of threads."""

    def __init__(self, workers: int) -> None:
        """Start nothing yet.

        Args:
            workers: number of processes; with one, or for one shard, this process is the worker.
        """
        self._workers = workers

    def index(self, settings: WorkerSettings, models: IndexModels, shards: Sequence[Shard]) -> Iterator[Shard]:
        """As `Executor.index`; a worker that dies, for example for lack of memory, ends the index."""
        workers = min(self._workers, len(shards))
        if workers < 2:
            return InProcess().index(settings, models, shards)
        return _index_in_processes(settings, shards, workers)


def _index_in_processes(settings: WorkerSettings, shards: Sequence[Shard], workers: int) -> Iterator[Shard]:
    threads = max(1, torch.get_num_threads() // workers)
    with ProcessPoolExecutor(
        workers,
        mp_context=multiprocessing.get_context("spawn"),  # a forked process cannot use torch or a GPU
        initializer=_start_worker,
        initargs=(settings, threads),
    ) as pool:
        pending = {pool.submit(_write, shard): shard for shard in shards}
        try:
            for future in as_completed(pending):
                future.result()
                yield pending[future]
        except BrokenProcessPool:
            raise StoreError(
                "a worker process died",
                field="--workers",
                fix="run the same command again, with fewer workers if memory is short; finished work is kept",
            ) from None
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


_writer: ShardWriter | None = None


def _start_worker(settings: WorkerSettings, threads: int) -> None:
    global _writer
    end_with_parent(signal.SIGKILL)  # a worker whose parent was killed would wait for its next shard forever
    torch.set_num_threads(threads)
    _writer, _ = settings.load()


def _write(shard: Shard) -> None:
    assert _writer is not None
    _writer.write(shard)
