"""Routes of features, against an independent computation on the case that the run is made from."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from litestar.testing import TestClient

from tegakari.schemas.config import POOLINGS, Pooling
from tests.support.definitions import activations_by_position, cohens_d, label_ids, varieties
from tests.support.factories import LABELS, TOP_TOKENS, WORDS, Case
from tests.support.service import DIRECTIONS, RUN, UNEVEN, get

BASE = f"/v1/runs/{RUN}"
FEATURES = f"{BASE}/features"


@pytest.fixture(scope="module")
def rows(client: TestClient) -> list[dict[str, Any]]:
    return get(client, FEATURES, limit=1000)["items"]


def test_features_of_a_run_have_their_statistics(rows: list[dict[str, Any]], case: Case):
    assert [(row["layer"], row["feature"]) for row in rows] == list(itertools.product(range(3), range(40)))
    for layer in range(3):
        of_layer = rows[40 * layer : 40 * layer + 40]
        values, d = activations_by_position(case, layer), cohens_d(case, layer, "head")
        np.testing.assert_allclose([row["density"] for row in of_layer], (values > 0).mean(0))
        np.testing.assert_array_equal([row["active_positions"] for row in of_layer], (values > 0).sum(0))
        np.testing.assert_allclose([row["max_activation"] for row in of_layer], values.max(0))
        np.testing.assert_array_equal([row["variety"] for row in of_layer], varieties(case, layer, "head"))
        for feature, row in enumerate(of_layer[:-1]):
            assert row["best_d"] == pytest.approx(d[:, feature].max(), rel=1e-3, abs=1e-6)
            assert d[LABELS.index(row["best_label"]), feature] == pytest.approx(d[:, feature].max(), rel=1e-3)
        assert of_layer[-1]["best_label"] is of_layer[-1]["best_d"] is None
        assert of_layer[-1]["top_tokens"] == []


@given(
    filters=st.fixed_dictionaries(
        {},
        optional={
            "layer": st.integers(0, 2),
            "token": st.sampled_from([*WORDS, " CAR ", "nothing"]),
            "variety": st.sampled_from(["specific", "shared", "0"]),
            "min_density": st.floats(0, 0.6),
            "max_density": st.floats(0.1, 1),
            "min_cohens_d": st.floats(-1, 3),
        },
    ),
    order=st.sampled_from(["feature", "density", "max_activation", "variety", "cohens_d"]),
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
        "min_cohens_d": lambda row, value: row["best_d"] is not None and row["best_d"] >= value,
    }
    expected = [row for row in rows if all(passes[name](row, value) for name, value in filters.items())]
    if order != "feature":
        key = "best_d" if order == "cohens_d" else order
        expected.sort(key=lambda row: (row[key] is None, -(row[key] or 0)))
    listed, cursor = [], {}
    while True:
        page = get(client, FEATURES, **filters, order=order, limit=size, **cursor)
        listed += page["items"]
        if page["next"] is None:
            break
        assert len(page["items"]) == size
        cursor = {"cursor": page["next"]}
    assert listed == expected


@pytest.mark.parametrize("feature", [0, 1, 6, 20, 38, 39])
@pytest.mark.parametrize("pooling", POOLINGS)
def test_a_feature_has_its_labels_and_strongest_positions(
    client: TestClient, case: Case, feature: int, pooling: Pooling
):
    detail = get(client, f"/v1/runs/{RUN}/layers/2/features/{feature}", pooling=pooling)
    values = activations_by_position(case, 2)[:, feature]
    active = values > 0
    assert detail["density"] == pytest.approx(active.mean())
    assert detail["active_positions"] == active.sum()
    assert detail["mean_activation"] == pytest.approx(values[active].mean() if active.any() else 0)
    assert detail["max_activation"] == pytest.approx(values.max())
    assert detail["pooling"] == pooling
    d = cohens_d(case, 2, pooling)[:, feature]
    assert detail["variety"] == (d > 1).sum()
    if not active.any():
        assert detail["labels"] == detail["tokens"] == []
        return
    assert [row["label"] for row in detail["labels"]] == [LABELS[label] for label in np.argsort(-d, kind="stable")]
    for row in detail["labels"]:
        label = LABELS.index(row["label"])
        pooled = case.pooled(2, pooling)[label_ids(case) == label, feature].astype(np.float64)
        assert row["documents"] == len(pooled)
        assert row["cohens_d"] == pytest.approx(d[label], rel=1e-3, abs=1e-6)
        assert row["mean"] == pytest.approx(pooled.mean(), rel=1e-5, abs=1e-7)
        assert row["sd"] == pytest.approx(pooled.std(ddof=1), rel=1e-5, abs=1e-6)
    expected = sorted(
        (-float(activations[row, feature]), document.number, position)
        for document, activations in zip(case.documents, case.activations[2], strict=True)
        for row, position in enumerate(document.tokens.positions)
        if activations[row, feature] > 0
    )[:TOP_TOKENS]
    assert [row["rank"] for row in detail["tokens"]] == list(range(1, len(expected) + 1))
    for row, (activation, number, position) in zip(detail["tokens"], expected, strict=True):
        document = case.documents[number]
        start, end = document.tokens.spans[position]
        assert row["activation"] == pytest.approx(-activation)
        assert (row["document"], row["position"]) == (document.id, position)
        assert row["label"] == LABELS[document.label_id]
        assert row["token_id"] == document.tokens.input_ids[position]
        assert row["token"] == document.text[start:end]
        assert document.text.startswith(row["before"] + row["token"] + row["after"], max(0, start - 40))


def test_the_number_of_positions_is_a_parameter(client: TestClient):
    path = f"/v1/runs/{RUN}/layers/0/features/0"
    all_tokens = get(client, path)["tokens"]
    assert len(all_tokens) == TOP_TOKENS
    assert get(client, path, tokens=3)["tokens"] == all_tokens[:3]
    assert get(client, path, tokens=0)["tokens"] == []


@pytest.mark.parametrize("name", ["labels", "tokens"])
def test_lists_of_a_feature_equal_those_of_its_detail(client: TestClient, name: str):
    path = f"{BASE}/layers/1/features/2"
    detail = get(client, path, tokens=TOP_TOKENS)[name]
    listed, cursor = [], {}
    while page := get(client, f"{path}/{name}", limit=2, **cursor):
        listed += page["items"]
        if page["next"] is None:
            break
        cursor = {"cursor": page["next"]}
    assert listed == detail


@pytest.mark.parametrize("feature", [0, 6, 39])
def test_documents_of_a_feature_are_those_in_which_it_is_strongest(client: TestClient, case: Case, feature: int):
    pooled = case.pooled(1, "head")[:, feature]
    order = [number for number in np.argsort(-pooled, kind="stable") if pooled[number] > 0]
    rows = get(client, f"{BASE}/layers/1/features/{feature}/documents", limit=50)["items"]
    assert [row["document"] for row in rows] == [case.documents[number].id for number in order]
    np.testing.assert_allclose([row["activation"] for row in rows], pooled[order], rtol=2**-10)


@pytest.mark.parametrize("feature", [0, 39])
def test_the_histogram_counts_every_active_document_once(client: TestClient, case: Case, feature: int):
    histogram = get(client, f"{BASE}/layers/0/features/{feature}/histogram")
    pooled = case.pooled(0, "head")[:, feature]
    assert histogram["documents"] == sum(histogram["counts"]) == (pooled > 0).sum()
    assert len(histogram["edges"]) == len(histogram["counts"]) + 1
    if pooled.any():
        assert histogram["edges"][-1] == pytest.approx(pooled.max(), rel=2**-10)
        expected, _ = np.histogram(pooled[pooled > 0], histogram["edges"])
        assert np.abs(np.cumsum(expected) - np.cumsum(histogram["counts"])).max() <= 1  # rounding may cross one edge


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.mark.parametrize("options", [{}, {"in_layer": 2}, {"in": RUN, "in_layer": 0}])
def test_neighbours_have_the_largest_cosines(client: TestClient, options: dict[str, str | int]):
    layers = [options["in_layer"]] if "in_layer" in options else [0, 1, 2]
    direction = unit(DIRECTIONS[1])[7]
    expected = sorted(
        (-float(unit(DIRECTIONS[int(layer)])[feature] @ direction), layer, feature)
        for layer in layers
        for feature in range(40)
        if (layer, feature) != (1, 7)
    )[:5]
    neighbours = get(client, f"{BASE}/layers/1/features/7/neighbours", limit=5, **options)["items"]
    assert [(row["layer"], row["feature"]) for row in neighbours] == [neighbour[1:] for neighbour in expected]
    np.testing.assert_allclose(
        [row["cosine"] for row in neighbours], [-neighbour[0] for neighbour in expected], rtol=1e-5
    )
    assert {row["run"] for row in neighbours} == {RUN}


def test_results_that_can_change_are_not_cached(client: TestClient):
    response = client.get(f"{BASE}/layers/0/features/0/neighbours")
    assert response.headers["cache-control"] == "no-cache"
    assert "etag" not in response.headers


@pytest.mark.parametrize(
    ("path", "status", "field"),
    [
        (f"{BASE}/features?order=size", 400, "order"),
        (f"{BASE}/features?layer=9", 404, "layer"),
        (f"{BASE}/features?cursor=abc", 400, "cursor"),
        (f"{BASE}/features?variety=many", 400, "variety"),
        (f"{BASE}/layers/0/features/40/labels", 404, "feature"),
        (f"{BASE}/layers/9/features/0/tokens", 404, "layer"),
        (f"{BASE}/layers/0/features/0/documents?limit=51", 400, "limit"),
        (f"{BASE}/layers/0/features/40/histogram", 404, "feature"),
        (f"{BASE}/layers/0/features/0/neighbours?in=nope", 404, "in"),
        (f"{BASE}/layers/0/features/0/neighbours?in=..", 404, "in"),
        (f"{BASE}/layers/0/features/0/neighbours?in_layer=9", 404, "layer"),
        (f"{BASE}/layers/0/features/0/neighbours?searched={RUN}", 400, "searched"),
        (f"/v1/runs/{UNEVEN}/layers/0/features/0/neighbours", 404, "run"),
    ],
)
def test_wrong_parameters_are_refused(client: TestClient, path: str, status: int, field: str):
    response = client.get(path)
    assert (response.status_code, response.json()["field"]) == (status, field), response.text
