"""Calls on threads: which items are done, and errors."""

from __future__ import annotations

import threading
import time

import pytest

from tegakari.store.threads import on_threads


def test_items_are_yielded_when_their_calls_are_done():
    received = threading.Event()

    def call(item: int) -> None:
        if item == 1:
            assert received.wait(10)

    items = on_threads(call, [1, 2], name="calls", threads=2)
    assert next(items) == 2
    received.set()
    assert list(items) == [1]
    assert list(on_threads(call, [], name="calls")) == []


def test_an_error_of_a_call_ends_the_work():
    begun = []

    def call(item: int) -> None:
        begun.append(item)
        if item == 1:
            raise ValueError("one")
        time.sleep(0.001)

    with pytest.raises(ValueError, match="one"):
        list(on_threads(call, range(1, 3000), name="calls", threads=2))
    assert len(begun) < 2999
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("calls")]
