"""Order of the training documents."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tegakari.indexer.training.classifier.order import LengthGroupedOrder


def order_of(lengths: list[int], batch_size: int, *, seed: int = 0, epoch: int = 0) -> list[int]:
    order = LengthGroupedOrder(lengths, batch_size, seed)
    order.set_epoch(epoch)
    assert len(order) == len(lengths)
    return list(order)


@given(st.lists(st.integers(1, 512), min_size=1, max_size=300), st.integers(1, 9), st.integers(0, 5))
def test_every_document_is_read_once_per_epoch(lengths: list[int], batch_size: int, epoch: int):
    assert sorted(order_of(lengths, batch_size, epoch=epoch)) == list(range(len(lengths)))


def test_the_order_depends_on_seed_and_epoch_alone():
    lengths = np.random.default_rng(0).integers(1, 512, 700).tolist()
    orders = {(seed, epoch): tuple(order_of(lengths, 4, seed=seed, epoch=epoch)) for seed in (0, 1) for epoch in (0, 1)}
    assert len(set(orders.values())) == 4
    used = LengthGroupedOrder(lengths, 4, 1)
    list(used)
    used.set_epoch(1)
    assert tuple(used) == orders[1, 1]


def test_batches_hold_documents_of_similar_length_and_are_not_sorted_by_length():
    lengths = np.random.default_rng(0).integers(1, 512, 2001).tolist()
    read = [lengths[index] for index in order_of(lengths, 4)]
    batches = [read[start : start + 4] for start in range(0, 2001, 4)]
    assert len(batches[-1]) == 1  # the short batch is last and does not shift the others
    padding = 1 - sum(lengths) / sum(len(batch) * max(batch) for batch in batches)
    assert padding < 0.03  # in a plain shuffle it is about 0.37
    longest = [max(batch) for batch in batches]
    assert abs(np.corrcoef(np.arange(len(longest)), longest)[0, 1]) < 0.1
