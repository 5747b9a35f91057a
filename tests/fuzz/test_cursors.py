"""Cursors of others: every text is refused or gives the rows that follow some row of the list, and never an error."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from functools import partial
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tegakari.schemas.api import Page
from tegakari.schemas.errors import CursorError
from tegakari.store import Run, queries
from tests.support.asgi import AsgiClient
from tests.support.factories import LABELS
from tests.support.fuzzing import NESTED, NUMBERS, VALUES, drawn
from tests.support.service import RUN, segment

DOCUMENT = f"{LABELS[0]}-000"

Query = Callable[..., Page[Any]]

LISTS: dict[str, Callable[[Run], Query]] = {
    "features of a label": lambda run: partial(queries.label_features, run, LABELS[0]),
    "features of a label and layer": lambda run: partial(queries.label_features, run, LABELS[0], layer=1),
    "features of a label by another pooling": lambda run: partial(
        queries.label_features, run, LABELS[1], pooling="mean", variety="shared"
    ),
    "features": lambda run: partial(queries.features, run),
    "features by d": lambda run: partial(queries.features, run, order="cohens_d"),
    "labels of a feature": lambda run: partial(queries.feature_labels, run, 0, 1),
    "tokens of a feature": lambda run: partial(queries.feature_tokens, run, 0, 1),
    "contexts of a feature": lambda run: partial(queries.feature_contexts, run, 0, 1),
    "documents": lambda run: partial(queries.documents, run),
    "documents of a label": lambda run: partial(queries.documents, run, label=LABELS[2]),
    "features of a document": lambda run: partial(queries.document_features, run, DOCUMENT),
}


def encoded(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).decode().rstrip("=")


def decoded(cursor: str) -> list[Any]:
    return json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))


KEYS = st.one_of(
    NUMBERS,
    st.lists(st.one_of(NUMBERS, st.none(), st.booleans(), st.text(max_size=3)), max_size=6),
    VALUES,
)


@pytest.mark.parametrize("name", LISTS)
def test_a_forged_key_is_refused_or_a_position_of_the_list(run: Run, name: str):
    query = LISTS[name](run)
    everything = msgspec.to_builtins(query(limit=1000).items)
    real = query(limit=3).next
    assert real is not None
    list_, real_key = decoded(real)

    def check(cursor: str) -> None:
        failure = None
        try:
            page = query(limit=7, cursor=cursor)
        except CursorError as error:
            failure = error
        if failure:
            assert failure.field == "cursor"
            return
        rows = msgspec.to_builtins(page.items)
        start = everything.index(rows[0]) if rows else len(everything)
        assert rows == everything[start : start + 7]
        assert (page.next is None) == (start + 7 >= len(everything))

    # A key of the right shape, of which one number is another.
    elements = real_key if isinstance(real_key, list) else [real_key]

    @drawn(60)
    @given(st.integers(0, len(elements) - 1), st.one_of(NUMBERS, st.none(), st.booleans(), st.text(max_size=3)), KEYS)
    def forge(at: int, element: Any, key: Any) -> None:
        near = [*elements[:at], element, *elements[at + 1 :]]
        for forged in (near if isinstance(real_key, list) else near[0], key):
            check(encoded(json.dumps([list_, forged]).encode()))

    forge()


@drawn(150)
@given(text=st.one_of(st.text(max_size=40), st.binary(max_size=40).map(encoded), NESTED.map(str.encode).map(encoded)))
def test_any_text_is_refused(run: Run, text: str):
    for name in ("features", "documents", "features of a label"):
        if text:
            with pytest.raises(CursorError):
                LISTS[name](run)(cursor=text)


@drawn(100)
@given(data=st.data(), name=st.sampled_from(sorted(LISTS)))
def test_a_changed_character_is_refused_or_a_position(run: Run, data: st.DataObject, name: str):
    query = LISTS[name](run)
    cursor = query(limit=2).next
    assert cursor is not None
    at = data.draw(st.integers(0, len(cursor) - 1))
    other = data.draw(st.sampled_from("ABCabc019-_=+/ \u00e9"))
    everything = msgspec.to_builtins(query(limit=1000).items)
    try:
        rows = msgspec.to_builtins(query(limit=5, cursor=cursor[:at] + other + cursor[at + 1 :]).items)
    except CursorError:
        return
    assert all(row in everything for row in rows)


@drawn(40)
@given(limit=st.integers(1, 60), name=st.sampled_from(sorted(LISTS)))
def test_pages_of_any_size_are_the_list(run: Run, limit: int, name: str):
    query = LISTS[name](run)
    expected = msgspec.to_builtins(query(limit=1000).items)
    rows: list[Any] = []
    cursor = None
    while True:
        page = query(limit=limit, cursor=cursor)
        rows += msgspec.to_builtins(page.items)
        cursor = page.next
        if cursor is None:
            break
    assert rows == expected


def test_a_cursor_is_refused_by_every_other_list(run: Run):
    cursors = {name: LISTS[name](run)(limit=2).next for name in LISTS}
    for name, cursor in cursors.items():
        for other, query_of in LISTS.items():
            if other != name:
                with pytest.raises(CursorError):
                    query_of(run)(cursor=cursor)


@pytest.mark.parametrize("opening", ["[", '{"a":', '["x",['])
def test_a_deeply_nested_cursor_is_a_wrong_request(client: AsgiClient, opening: str):
    path = f"/v1/runs/{RUN}/labels/{segment(LABELS[0])}/features?cursor="
    for depth in (100, 900, 1020):
        cursor = encoded(b'["list",' + opening.encode() * depth)
        response = client.request("GET", path.encode() + cursor.encode())
        assert (response.status, b"bad-cursor" in response.body) in ((400, True), (414, False))
