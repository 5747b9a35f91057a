"""Routes of documents, against the case that the run is made from."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from litestar.testing import TestClient

from tests.support.definitions import label_ids
from tests.support.factories import LABELS, Case
from tests.support.service import EMBEDDINGS, RUN, get, segment

BASE = f"/v1/runs/{RUN}"


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
    labels = label_ids(case)
    expected = np.ones(len(labels), bool)
    if "label" in filters:
        expected &= labels == filters["label"]
    if "predicted" in filters:
        expected &= case.predicted == filters["predicted"]
    if "correct" in filters:
        expected &= (labels == case.predicted) == filters["correct"]
    parameters = {name: LABELS[value] if name != "correct" else str(value).lower() for name, value in filters.items()}
    rows, cursor = [], {}
    while page := get(client, f"{BASE}/documents", limit=4, **parameters, **cursor):
        rows += page["items"]
        if page["next"] is None:
            break
        cursor = {"cursor": page["next"]}
    assert [row["document"] for row in rows] == [case.documents[number].id for number in np.flatnonzero(expected)]
    for row in rows:
        document = next(document for document in case.documents if document.id == row["document"])
        assert document.text.startswith(row["text"])
        assert row["tokens"] == len(document.tokens.input_ids)
        assert row["label"] == LABELS[document.label_id]
        assert row["predicted"] == LABELS[case.predicted[document.number]]
        assert row["correct"] == (row["label"] == row["predicted"])


@pytest.mark.parametrize("number", [0, 8, 35])
def test_a_document_has_its_strongest_features(client: TestClient, case: Case, number: int):
    document = case.documents[number]
    detail = get(client, f"{BASE}/documents/{segment(document.id)}", features=4)
    assert detail["text"] == document.text
    assert (detail["split"], detail["truncated"]) == ("eval", False)
    assert detail["predicted_logit"] == 2.5
    assert detail["label_logit"] == (2.5 if detail["correct"] else 1)
    expected = []
    for layer in range(3):
        pooled = case.pooled(layer, "head")[number]
        strongest = [int(feature) for feature in np.argsort(-pooled, kind="stable")[:4] if pooled[feature] > 0]
        expected += [(layer, feature, rank) for rank, feature in enumerate(strongest, start=1)]
    assert [(row["layer"], row["feature"], row["rank"]) for row in detail["features"]] == expected
    listed = get(client, f"{BASE}/documents/{segment(document.id)}/features", limit=1000)["items"]
    assert [row for row in listed if row["rank"] <= 4] == detail["features"]
    of_layer = get(client, f"{BASE}/documents/{segment(document.id)}/features", layer=1)["items"]
    assert of_layer == [row for row in listed if row["layer"] == 1]


def test_similar_documents_have_the_largest_cosines(client: TestClient, case: Case):
    cosines = (unit := EMBEDDINGS / np.linalg.norm(EMBEDDINGS, axis=1, keepdims=True)) @ unit[4]
    order = [int(number) for number in np.argsort(-cosines) if number != 4][:6]
    rows = get(client, f"{BASE}/documents/{segment(case.documents[4].id)}/similar", limit=6)["items"]
    assert [row["document"] for row in rows] == [case.documents[number].id for number in order]


@pytest.mark.parametrize(
    ("path", "status", "field"),
    [
        (f"{BASE}/documents/nope", 404, "document"),
        (f"{BASE}/documents/nope/features", 404, "document"),
        (f"{BASE}/documents?label=nope", 404, "label"),
        (f"{BASE}/documents?correct=perhaps", 400, "correct"),
        (f"{BASE}/documents?cursor=abc", 400, "cursor"),
    ],
)
def test_wrong_parameters_are_refused(client: TestClient, path: str, status: int, field: str):
    response = client.get(path)
    assert (response.status_code, response.json()["field"]) == (status, field), response.text
