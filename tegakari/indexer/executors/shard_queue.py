"""Which shard a worker that can die gets next, and which shard ends its workers."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence

from tegakari.indexer.shard import Shard
from tegakari.schemas.errors import StoreError

DEATHS = 3
"""Workers that may die with a shard before the index ends."""


class ShardQueue:
    """Shards to index, and the number of workers that died with each.

    A worker holds several shards, so that it computes one while another is written. When it dies, any of them can be
    the cause: from then on each is given to a worker that holds nothing else, so that a shard which ends its workers is
    told from those that were beside it.
    """

    def __init__(self, shards: Sequence[Shard], held_at_most: int) -> None:
        """Queue the shards in order.

        Args:
            shards: to index.
            held_at_most: shards of a worker at once.
        """
        self._queue = deque(shards)
        self._held_at_most = held_at_most
        self._deaths: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._queue)

    def take(self, held: Sequence[Shard]) -> Shard | None:
        """The next shard for a worker, taken from the queue; None: nothing until it has finished some that it holds.

        Args:
            held: shards of the worker.
        """
        if not self._queue or len(held) >= self._held_at_most:
            return None
        alone = self._deaths[self._queue[0].key] or any(self._deaths[shard.key] for shard in held)
        return None if held and alone else self._queue.popleft()

    def put_back(self, lost: Sequence[Shard]) -> None:
        """Queue the shards of a dead worker again, before all others.

        Raises:
            StoreError: one of them was lost with DEATHS workers.
        """
        for shard in lost:
            self._deaths[shard.key] += 1
            if self._deaths[shard.key] >= DEATHS:
                first, last = shard.documents[0].id, shard.documents[-1].id
                raise StoreError(
                    f"shard {shard.key} ended {DEATHS} workers; it has {len(shard.documents)} documents, {first!r} to "
                    f"{last!r}",
                    field="corpus",
                    fix="look into the workers' logs; give them more memory, or take the document at fault out of the "
                    "corpus; finished work is kept",
                )
        self._queue.extendleft(reversed(lost))
