"""Shards and layers in several processes of this machine, one after the other in each.

Those that index load the models; those that merge need none.
"""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from typing import Any, TypeVar

import torch

from tegakari.indexer.executors.executor import WorkerSettings, layers_at_once
from tegakari.indexer.executors.in_process import InProcess
from tegakari.indexer.index_models import IndexModels
from tegakari.indexer.merged_layer import LayerMerge
from tegakari.indexer.shard import Shard
from tegakari.indexer.shard_writer import ShardWriter
from tegakari.schemas.errors import StoreError
from tegakari.store.processes import end_with_parent

Item = TypeVar("Item")


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
        threads = max(1, torch.get_num_threads() // workers)
        return _results(workers, _start_worker, (settings, threads), [(shard, (_write, shard)) for shard in shards])

    def merge(self, merge: LayerMerge, layers: Mapping[int, int]) -> Iterator[int]:
        """As `Executor.merge`; a process takes `merge.memory` beside itself."""
        workers = min(self._workers, len(layers), layers_at_once(merge))
        if workers < 2:
            return InProcess(1).merge(merge, layers)
        calls = [(layer, (merge.merge, layer, d_sae)) for layer, d_sae in layers.items()]
        return _results(workers, end_with_parent, (signal.SIGKILL,), calls)


def _results(
    workers: int, start: Callable[..., None], arguments: tuple[Any, ...], calls: Sequence[tuple[Item, tuple[Any, ...]]]
) -> Iterator[Item]:
    """Call functions in new processes, and yield the item of each call when it is done.

    Args:
        workers: number of processes.
        start: first function of each process.
        arguments: of `start`.
        calls: of each item, function and arguments.
    """
    with ProcessPoolExecutor(
        workers,
        mp_context=multiprocessing.get_context("spawn"),  # a forked process cannot use torch or a GPU
        initializer=start,
        initargs=arguments,
    ) as pool:
        pending: dict[Future[None], Item] = {pool.submit(*call): item for item, call in calls}
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
