"""Cursors: forged ones and those of other lists are refused."""

from __future__ import annotations

import pytest

from tegakari.schemas.errors import CursorError
from tegakari.store import Run, queries
from tegakari.store.queries.cursor import list_name, write_cursor
from tests.support.factories import LABELS


@pytest.mark.parametrize("cursor", ["x", "!!!", "W10", "WyJhIiwxXQ", "\u3042", "A" * 10_000])
def test_forged_cursors_are_refused(uneven_run: Run, cursor: str):
    with pytest.raises(CursorError):
        queries.label_features(uneven_run, LABELS[0], cursor=cursor)


def test_a_cursor_of_another_list_is_refused(uneven_run: Run):
    cursor = queries.label_features(uneven_run, LABELS[0], limit=2).next
    assert cursor
    with pytest.raises(CursorError):
        queries.label_features(uneven_run, LABELS[1], limit=2, cursor=cursor)


@pytest.mark.parametrize("number", [-1, 10_000_000])
def test_numbers_out_of_range_are_refused(uneven_run: Run, number: int):
    lists = {
        list_name(uneven_run, "documents", None, None, None): queries.documents,
        list_name(uneven_run, "features", None, None, None, None, None, None, "feature"): queries.features,
    }
    for list_, query in lists.items():
        assert query(uneven_run, cursor=write_cursor(list_, 0)).items
        with pytest.raises(CursorError):
            query(uneven_run, cursor=write_cursor(list_, number))
