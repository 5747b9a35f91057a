"""Contexts of a feature as the API returns them, against the definition and the documents' texts."""

from __future__ import annotations

from pathlib import Path

from litestar.testing import TestClient

from tests.support.factories import LABELS, TOP_TOKENS, Case, make_run
from tests.support.plain_contexts import plain_contexts
from tests.support.service import RUN, client_of, get

PATH = f"/v1/runs/{RUN}/layers/1/features/3/contexts"


def test_contexts_are_those_of_the_definition_with_texts_of_tokens(client: TestClient, case: Case):
    expected = plain_contexts(case.documents, case.activations[1], 1, TOP_TOKENS)
    of_feature = [column[expected.feature == 3].tolist() for column in expected.contexts]
    rows, cursor = [], {}
    while cursor is not None:
        page = get(client, PATH, limit=7, **cursor)
        rows += page["items"]
        cursor = {"cursor": page["next"]} if page["next"] else None
    assert len(rows) == len(of_feature[0]) > TOP_TOKENS
    for row, (quantile, rank, number, position, activation, start, length, values) in zip(
        rows, zip(*of_feature, strict=True), strict=True
    ):
        document = case.documents[number]
        assert (row["quantile"], row["rank"], row["document"]) == (quantile, rank, document.id)
        assert (row["label"], row["position"], row["start"]) == (LABELS[document.label_id], position, start)
        assert (row["activation"], row["activations"]) == (activation, values[:length])
        spans = document.tokens.spans[start : start + length]
        assert row["tokens"] == [document.text[a:b] for a, b in spans]
        assert "".join(row["tokens"]) == document.text[spans[0][0] : spans[-1][1]]


def test_a_quantile_selects_its_contexts(client: TestClient):
    rows = get(client, PATH)["items"]
    for quantile in (0, 1, 10):
        selected = get(client, PATH, quantile=quantile)["items"]
        assert selected == [row for row in rows if row["quantile"] == quantile]
    assert get(client, f"/v1/runs/{RUN}/layers/1/features/39/contexts") == {"items": [], "next": None}
    response = client.get(PATH, params={"quantile": "11"})
    assert response.status_code == 400
    assert response.json()["field"] == "quantile"


def test_a_run_without_contexts_names_the_command_that_adds_them(tmp_path: Path):
    make_run(tmp_path, "old", run_format=3)
    with client_of(tmp_path) as client:
        response = client.get("/v1/runs/old/layers/0/features/0/contexts")
        assert response.status_code == 404
        assert response.json()["fix"] == "`tegakari runs add-contexts old` adds them"
        assert get(client, "/v1/runs/old/layers/0/features/0")["labels"]
