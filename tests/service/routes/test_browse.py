"""Features and documents that are looked through, against the definition on what the run was drawn from."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from litestar.testing import TestClient

from tests.service.conftest import RUN, get, segment
from tests.service.routes.test_answers import cohens_d, every_position, owners, varieties
from tests.support.factories import LABELS, TOP_TOKENS, WORDS, Case

BASE = f"/v1/runs/{RUN}"
FEATURES = f"{BASE}/features"


@pytest.fixture(scope="module")
def rows(client: TestClient) -> list[dict[str, Any]]:
    return get(client, FEATURES, limit=1000)["items"]


def test_features_of_a_run_have_their_statistics(rows: list[dict[str, Any]], case: Case):
    assert [(row["layer"], row["feature"]) for row in rows] == list(itertools.product(range(3), range(40)))
    for layer in range(3):
        mine = rows[40 * layer : 40 * layer + 40]
        values, d = every_position(case, layer), cohens_d(case, layer, "last")
        np.testing.assert_allclose([row["density"] for row in mine], (values > 0).mean(0))
        np.testing.assert_array_equal([row["active_positions"] for row in mine], (values > 0).sum(0))
        np.testing.assert_allclose([row["max_activation"] for row in mine], values.max(0))
        np.testing.assert_array_equal([row["variety"] for row in mine], varieties(case, layer, "last"))
        for feature, row in enumerate(mine[:-1]):
            assert row["best_d"] == pytest.approx(d[:, feature].max(), rel=1e-3, abs=1e-6)
            assert d[LABELS.index(row["best_label"]), feature] == pytest.approx(d[:, feature].max(), rel=1e-3)
        assert mine[-1]["best_label"] is mine[-1]["best_d"] is None
        assert mine[-1]["top_tokens"] == []


@given(
    filters=st.fixed_dictionaries(
        {},
        optional={
            "layer": st.integers(0, 2),
            "token": st.sampled_from([*WORDS, " CAR ", "nothing"]),
            "variety": st.sampled_from(["specific", "shared", "0"]),
            "min_density": st.floats(0, 0.6),
            "max_density": st.floats(0.1, 1),
            "min_d": st.floats(-1, 3),
        },
    ),
    order=st.sampled_from(["feature", "density", "max_activation", "variety", "d"]),
    size=st.integers(1, 30),
)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_features_are_filtered_and_ordered(
    client: TestClient, rows: list[dict[str, Any]], filters: dict[str, Any], order: str, size: int
):
    passes = {
        "layer": lambda row, value: row["layer"] == value,
        "token": lambda row, value: value.strip().lower() in [token.lower() for token in row["top_tokens"]],
        "variety": lambda row, value: {"specific": row["variety"] == 1, "shared": row["variety"] > 1}.get(
            value, row["variety"] == 0
        ),
        "min_density": lambda row, value: row["density"] >= value,
        "max_density": lambda row, value: row["density"] <= value,
        "min_d": lambda row, value: row["best_d"] is not None and row["best_d"] >= value,
    }
    expected = [row for row in rows if all(passes[name](row, value) for name, value in filters.items())]
    if order != "feature":
        key = "best_d" if order == "d" else order
        expected.sort(key=lambda row: (row[key] is None, -(row[key] or 0)))
    found, cursor = [], {}
    while True:
        page = get(client, FEATURES, **filters, order=order, limit=size, **cursor)
        found += page["items"]
        if page["next"] is None:
            break
        assert len(page["items"]) == size
        cursor = {"cursor": page["next"]}
    assert found == expected


@pytest.mark.parametrize("part", ["labels", "tokens"])
def test_parts_of_a_feature_are_those_of_its_page(client: TestClient, part: str):
    path = f"{BASE}/layers/1/features/2"
    whole = get(client, path, tokens=TOP_TOKENS)[part]
    found, cursor = [], {}
    while page := get(client, f"{path}/{part}", limit=2, **cursor):
        found += page["items"]
        if page["next"] is None:
            break
        cursor = {"cursor": page["next"]}
    assert found == whole


@pytest.mark.parametrize("feature", [0, 6, 39])
def test_documents_of_a_feature_are_those_in_which_it_is_strongest(client: TestClient, case: Case, feature: int):
    pooled = case.pooled(1, "last")[:, feature]
    order = [number for number in np.argsort(-pooled, kind="stable") if pooled[number] > 0]
    found = get(client, f"{BASE}/layers/1/features/{feature}/documents", limit=50)["items"]
    assert [row["document"] for row in found] == [case.documents[number].id for number in order]
    np.testing.assert_allclose([row["activation"] for row in found], pooled[order], rtol=2**-10)


@pytest.mark.parametrize("feature", [0, 39])
def test_the_histogram_counts_every_active_document_once(client: TestClient, case: Case, feature: int):
    found = get(client, f"{BASE}/layers/0/features/{feature}/histogram")
    pooled = case.pooled(0, "last")[:, feature]
    assert found["documents"] == sum(found["counts"]) == (pooled > 0).sum()
    assert len(found["edges"]) == len(found["counts"]) + 1
    if pooled.any():
        assert found["edges"][-1] == pytest.approx(pooled.max(), rel=2**-10)
        expected, _ = np.histogram(pooled[pooled > 0], found["edges"])
        assert np.abs(np.cumsum(expected) - np.cumsum(found["counts"])).max() <= 1  # rounding may cross one edge


@pytest.mark.parametrize(
    "filters",
    [
        {},
        {"label": 1},
        {"predicted": 3},
        {"correct": False},
        {"label": 1, "correct": True},
        {"label": 0, "predicted": 1},
    ],
)
def test_documents_are_filtered(client: TestClient, case: Case, filters: dict[str, Any]):
    own = owners(case)
    keep = np.ones(len(own), bool)
    if "label" in filters:
        keep &= own == filters["label"]
    if "predicted" in filters:
        keep &= case.predicted == filters["predicted"]
    if "correct" in filters:
        keep &= (own == case.predicted) == filters["correct"]
    asked = {name: LABELS[value] if name != "correct" else str(value).lower() for name, value in filters.items()}
    found, cursor = [], {}
    while page := get(client, f"{BASE}/documents", limit=4, **asked, **cursor):
        found += page["items"]
        if page["next"] is None:
            break
        cursor = {"cursor": page["next"]}
    assert [row["document"] for row in found] == [case.documents[number].id for number in np.flatnonzero(keep)]
    for row in found:
        document = next(document for document in case.documents if document.id == row["document"])
        assert document.text.startswith(row["text"])
        assert row["tokens"] == len(document.tokens.input_ids)
        assert row["label"] == LABELS[document.label_id]
        assert row["predicted"] == LABELS[case.predicted[document.number]]
        assert row["correct"] == (row["label"] == row["predicted"])


@pytest.mark.parametrize("number", [0, 8, 35])
def test_a_document_with_its_strongest_features(client: TestClient, case: Case, number: int):
    document = case.documents[number]
    found = get(client, f"{BASE}/documents/{segment(document.id)}", features=4)
    assert found["text"] == document.text
    assert (found["split"], found["truncated"]) == ("eval", False)
    assert found["predicted_logit"] == 2.5
    assert found["label_logit"] == (2.5 if found["correct"] else 1)
    expected = []
    for layer in range(3):
        pooled = case.pooled(layer, "last")[number]
        strongest = [int(feature) for feature in np.argsort(-pooled, kind="stable")[:4] if pooled[feature] > 0]
        expected += [(layer, feature, rank) for rank, feature in enumerate(strongest, start=1)]
    assert [(row["layer"], row["feature"], row["rank"]) for row in found["features"]] == expected
    every = get(client, f"{BASE}/documents/{segment(document.id)}/features", limit=1000)["items"]
    assert [row for row in every if row["rank"] <= 4] == found["features"]
    only = get(client, f"{BASE}/documents/{segment(document.id)}/features", layer=1)["items"]
    assert only == [row for row in every if row["layer"] == 1]


@pytest.mark.parametrize(
    ("path", "status", "field"),
    [
        ("documents/nope", 404, "document"),
        ("documents/nope/features", 404, "document"),
        ("documents?label=nope", 404, "label"),
        ("documents?correct=perhaps", 400, "correct"),
        ("documents?cursor=abc", 400, "cursor"),
        ("features?order=size", 400, "order"),
        ("features?layer=9", 404, "layer"),
        ("features?cursor=abc", 400, "cursor"),
        ("features?variety=many", 400, "variety"),
        ("layers/0/features/40/labels", 404, "feature"),
        ("layers/9/features/0/tokens", 404, "layer"),
        ("layers/0/features/0/documents?limit=51", 400, "limit"),
        ("layers/0/features/40/histogram", 404, "feature"),
    ],
)
def test_what_is_not_there_is_refused(client: TestClient, path: str, status: int, field: str):
    response = client.get(f"{BASE}/{path}")
    assert (response.status_code, response.json()["field"]) == (status, field)
