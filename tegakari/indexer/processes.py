"""Indexing in several processes: each loads the models and indexes one shard after the other."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import torch

from tegakari.indexer.index_models import load_models
from tegakari.indexer.norm_limits import with_limits
from tegakari.indexer.partial import write_partial
from tegakari.indexer.shard import Shard
from tegakari.indexer.worker import Worker, make_worker
from tegakari.schemas.config import Config
from tegakari.schemas.errors import StoreError
from tegakari.store.processes import end_with_parent


def index_in_processes(
    config: Config,
    shards: Sequence[Shard],
    partials: Path,
    workers: int,
    limits: Mapping[int, float | None],
    *,
    contexts: bool,
) -> Iterator[Shard]:
    """Index shards in new processes and yield each shard when its partial is written.

    The content of a partial does not depend on the process: the floors from a worker's earlier shards only save work.

    Args:
        config: configuration of the run; each process loads its models.
        shards: the shards to index.
        partials: directory of the partials.
        workers: number of processes, which share this process' number of threads.
        limits: of norms, by layer; None: no residual is an outlier.
        contexts: as of `Worker`.

    Raises:
        StoreError: a process died, for example because the system killed it for lack of memory.
    """
    threads = max(1, torch.get_num_threads() // workers)
    with ProcessPoolExecutor(
        workers,
        mp_context=multiprocessing.get_context("spawn"),  # a forked process cannot use torch or a GPU
        initializer=_start_worker,
        initargs=(config, partials, threads, limits, contexts),
    ) as pool:
        pending = {pool.submit(_index, shard): shard for shard in shards}
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


_worker: Worker | None = None
_partials = Path()


def _start_worker(
    config: Config, partials: Path, threads: int, limits: Mapping[int, float | None], contexts: bool
) -> None:
    global _worker, _partials
    end_with_parent(signal.SIGKILL)  # a worker whose parent was killed would wait for its next shard forever
    torch.set_num_threads(threads)
    classifier, saes = load_models(config)
    _worker, _partials = make_worker(config, classifier, with_limits(saes, limits), contexts=contexts), partials


def _index(shard: Shard) -> None:
    assert _worker is not None
    result = _worker.index(shard)
    write_partial(_partials, shard, result.positions, result.layers, result.documents)
