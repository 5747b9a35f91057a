"""Shards in this process: threads finish and write two of them while the next is computed."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from tegakari.indexer.shard import Shard
from tegakari.indexer.shard_writer import ShardWriter

UNWRITTEN = 2
"""Shards in memory beside the one that is computed: one is finished while another is written."""


def index_on_threads(writer: ShardWriter, shards: Sequence[Shard]) -> Iterator[Shard]:
    """Index shards, write their partials, and yield each shard when its passes are done.

    Args:
        writer: with the loaded models.
        shards: without a partial.
    """
    with ThreadPoolExecutor(UNWRITTEN, thread_name_prefix="write-partial") as pool:
        pending: deque[Future[None]] = deque()
        for shard in shards:
            work = writer.start(shard)
            if len(pending) == UNWRITTEN:
                pending.popleft().result()
            pending.append(pool.submit(writer.finish, work))
            yield shard
        for future in pending:
            future.result()
