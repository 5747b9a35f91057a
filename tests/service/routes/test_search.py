"""What lies near, over HTTP, against cosines computed here."""

from __future__ import annotations

import numpy as np
import pytest
from litestar.testing import TestClient

from tests.service.conftest import DIRECTIONS, EMBEDDINGS, RUN, UNEVEN, get, segment
from tests.support.factories import Case

BASE = f"/v1/runs/{RUN}"


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.mark.parametrize("options", [{}, {"in_layer": 2}, {"in": RUN, "in_layer": 0}])
def test_neighbours_have_the_largest_cosines(client: TestClient, options: dict[str, str | int]):
    layers = [options["in_layer"]] if "in_layer" in options else [0, 1, 2]
    own = unit(DIRECTIONS[1])[7]
    expected = sorted(
        (-float(unit(DIRECTIONS[int(layer)])[feature] @ own), layer, feature)
        for layer in layers
        for feature in range(40)
        if (layer, feature) != (1, 7)
    )[:5]
    found = get(client, f"{BASE}/layers/1/features/7/neighbours", limit=5, **options)["items"]
    assert [(row["layer"], row["feature"]) for row in found] == [hit[1:] for hit in expected]
    np.testing.assert_allclose([row["cosine"] for row in found], [-hit[0] for hit in expected], rtol=1e-5)
    assert {row["run"] for row in found} == {RUN}


def test_similar_documents_have_the_largest_cosines(client: TestClient, case: Case):
    cosines = unit(EMBEDDINGS) @ unit(EMBEDDINGS)[4]
    order = [int(number) for number in np.argsort(-cosines) if number != 4][:6]
    found = get(client, f"{BASE}/documents/{segment(case.documents[4].id)}/similar", limit=6)["items"]
    assert [row["document"] for row in found] == [case.documents[number].id for number in order]


def test_words_are_found_in_japanese(client: TestClient, case: Case):
    found = get(client, f"{BASE}/search", q="味噌汁", limit=1000)["items"]
    assert {row["document"] for row in found} == {each.id for each in case.documents if "味噌汁" in each.text}
    assert [row["score"] for row in found] == sorted((row["score"] for row in found), reverse=True)


@pytest.mark.parametrize(
    ("path", "status", "field"),
    [
        (f"{BASE}/search", 400, "q"),
        (f"{BASE}/search?q=%20", 400, "q"),
        (f"{BASE}/layers/0/features/0/neighbours?in=nope", 404, "in"),
        (f"{BASE}/layers/0/features/0/neighbours?in=..", 404, "in"),
        (f"{BASE}/layers/0/features/0/neighbours?in_layer=9", 404, "layer"),
        (f"{BASE}/layers/0/features/0/neighbours?searched={RUN}", 400, "searched"),
        (f"/v1/runs/{UNEVEN}/layers/0/features/0/neighbours", 404, "run"),
        (f"/v1/runs/{UNEVEN}/search?q=a", 404, "run"),
    ],
)
def test_what_is_not_there_is_said(client: TestClient, path: str, status: int, field: str):
    answer = client.get(path)
    assert (answer.status_code, answer.json()["field"]) == (status, field), answer.text


def test_answers_that_can_change_are_asked_for_again(client: TestClient):
    answer = client.get(f"{BASE}/layers/0/features/0/neighbours")
    assert answer.headers["cache-control"] == "no-cache"
    assert "etag" not in answer.headers
