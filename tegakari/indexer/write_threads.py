"""Shards in this process: threads finish and write two of them while the next is computed."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from tegakari.indexer.partial import write_partial
from tegakari.indexer.shard import Shard
from tegakari.indexer.worker import ShardWork, Worker

UNWRITTEN = 2
"""Shards in memory beside the one that is computed: one is finished while another is written."""


def index_on_threads(worker: Worker, shards: Sequence[Shard], partials: Path) -> Iterator[Shard]:
    """Index shards, write their partials, and yield each shard when its passes are done.

    Args:
        worker: with the loaded models.
        shards: without a partial.
        partials: directory of the partials.
    """

    def write(work: ShardWork) -> None:
        result = worker.finish(work)
        write_partial(partials, work.shard, result.positions, result.layers, result.documents)

    with ThreadPoolExecutor(UNWRITTEN, thread_name_prefix="write-partial") as pool:
        pending: deque[Future[None]] = deque()
        for shard in shards:
            work = worker.start(shard)
            if len(pending) == UNWRITTEN:
                pending.popleft().result()
            pending.append(pool.submit(write, work))
            yield shard
        for future in pending:
            future.result()
