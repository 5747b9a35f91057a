"""Which shards a worker that can die gets next."""

from __future__ import annotations

import pytest

from tegakari.indexer.executors.shard_queue import ShardQueue
from tegakari.indexer.shard import IndexedDocument, Shard
from tegakari.models.tokens import Tokenized
from tegakari.schemas.errors import StoreError

TOKENS = Tokenized([1], [(0, 4)], [False], False)


def shards_of(count: int) -> list[Shard]:
    return [
        Shard(f"key-{number}", [IndexedDocument(number, f"id-{number}", 0, "eval", "text", TOKENS)], [])
        for number in range(count)
    ]


def test_a_worker_holds_a_few_shards_in_order():
    shards = shards_of(3)
    queue = ShardQueue(shards, 2)
    assert queue.take([]) is shards[0]
    assert queue.take(shards[:1]) is shards[1]
    assert queue.take(shards[:2]) is None
    assert len(queue) == 1


def test_lost_shards_come_first_and_each_alone():
    shards = shards_of(3)
    queue = ShardQueue(shards, 2)
    held = [shard for shard in (queue.take([]), queue.take(shards[:1])) if shard]
    queue.put_back(held)
    assert queue.take(shards[2:]) is None, "beside another shard"
    assert queue.take([]) is shards[0]
    assert queue.take(shards[:1]) is None, "another beside it"
    assert queue.take([]) is shards[1]
    assert queue.take([]) is shards[2]


def test_a_shard_that_ends_its_workers_is_named_and_not_those_beside_it():
    shards = shards_of(8)
    poison = shards[2]
    queue = ShardQueue(shards, 3)
    done: list[Shard] = []
    deaths = 0

    def run_worker() -> None:
        nonlocal deaths
        held: list[Shard] = []
        while (shard := queue.take(held)) is not None:
            held.append(shard)
        if poison in held:
            deaths += 1
            queue.put_back(held)
        else:
            done.extend(held)

    for _ in range(4):  # three shards die together; the first two are done alone; the third dies alone
        run_worker()
    assert [shard.key for shard in done] == ["key-0", "key-1"]
    with pytest.raises(StoreError, match=r"shard key-2 ended 3 workers; it has 1 documents, 'id-2'"):
        run_worker()
    assert deaths == 3
