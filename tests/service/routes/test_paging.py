"""Pages of any size concatenate to the full list: every row once, in one order."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from litestar.testing import TestClient

from tegakari.schemas.config import POOLINGS
from tests.support.factories import LABELS
from tests.support.service import RUN, get, segment


def features_path(label: str) -> str:
    return f"/v1/runs/{RUN}/labels/{segment(label)}/features"


@given(
    label=st.sampled_from(LABELS),
    sizes=st.lists(st.integers(1, 60), min_size=1, max_size=5),
    filters=st.fixed_dictionaries(
        {},
        optional={
            "layer": st.integers(0, 2),
            "pooling": st.sampled_from(POOLINGS),
            "min_cohens_d": st.floats(-3, 3),
            "variety": st.sampled_from(["specific", "shared", "0", "1"]),
        },
    ),
)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_pages_concatenate_to_the_full_list(client: TestClient, label: str, sizes: list[int], filters: dict):
    full = get(client, features_path(label), limit=1000, **filters)
    assert full["next"] is None
    rows, cursor = [], {}
    for size in itertools.cycle(sizes):
        page = get(client, features_path(label), limit=size, **filters, **cursor)
        assert len(page["items"]) <= size
        rows += page["items"]
        if page["next"] is None:
            break
        assert len(page["items"]) == size
        cursor = {"cursor": page["next"]}
    assert rows == full["items"]


def test_ties_are_broken_by_layer_and_feature(client: TestClient):
    rows = get(client, features_path(LABELS[0]), limit=1000)["items"]
    keys = [(-row["cohens_d"], row["layer"], row["feature"]) for row in rows]
    assert keys == sorted(set(keys))
    tied = [(a, b) for a, b in itertools.pairwise(rows) if a["cohens_d"] == b["cohens_d"]]
    assert len(tied) > 20
    assert {a["layer"] == b["layer"] for a, b in tied} == {True, False}


@pytest.mark.parametrize("other", [{"layer": 1}, {"min_cohens_d": 0.5}, {"pooling": "max"}, {"variety": "specific"}])
def test_a_cursor_belongs_to_one_query(client: TestClient, other: dict[str, str | float]):
    cursor = get(client, features_path(LABELS[0]), limit=2)["next"]
    for path, parameters in ((features_path(LABELS[0]), other), (features_path(LABELS[1]), {})):
        response = client.get(path, params={**parameters, "cursor": cursor})
        assert response.status_code == 400
        assert (response.json()["type"], response.json()["field"]) == ("/docs/errors/bad-cursor", "cursor")
