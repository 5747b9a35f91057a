"""A document's attribution over HTTP: its parts fit each other and other routes; wrong requests are refused."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from litestar.testing import TestClient

from tegakari.schemas.config import ServiceConfig
from tegakari.service.app import create_app
from tests.support.live_case import LiveCase
from tests.support.service import RUN


def post_attribution(live_case: LiveCase, **body: Any) -> httpx.Response:
    return live_case.client.post("/v1/runs/small/attribution", json=body)


def test_a_document_has_an_attribution(live_case: LiveCase):
    document, text = next(iter(live_case.texts.items()))
    response = post_attribution(live_case, document=document, candidates=7, max_set=3)
    assert response.status_code == 200, response.text
    assert response.headers["cache-control"] == "no-store"
    attribution = response.json()
    (classified,) = live_case.client.post("/v1/runs/small/classify", json={"texts": [text]}).json()["items"]
    assert attribution["predicted"] == attribution["label"] == classified["predicted"]
    logits = sorted((row["logit"] for row in classified["labels"]), reverse=True)
    assert attribution["margin"] == pytest.approx(logits[0] - logits[1], abs=3e-4)
    (encoded,) = live_case.client.post(
        "/v1/runs/small/encode", json={"texts": [text], "pooling": "max", "top": 48}
    ).json()["items"]
    strongest = {(row["layer"], row["feature"]): row["activation"] for row in encoded["features"]}
    assert attribution["active_features"] == pytest.approx(len(strongest), abs=2)  # near 0, a batch's rounding decides
    assert len(attribution["features"]) == 7
    for row in attribution["features"]:
        assert row["activation"] == pytest.approx(strongest[row["layer"], row["feature"]], rel=1e-3)
        assert row["onset_token"] == attribution["tokens"][row["onset"]]["token"]
    assert [token["token"] for token in attribution["tokens"]] == [token["token"] for token in encoded["tokens"]]
    assert len(attribution["steps"]) <= 3
    assert attribution["settings"]["layers"] == [0, 1, 2]
    assert post_attribution(live_case, document=document, candidates=7, max_set=3).json() == attribution


WRONG: list[tuple[dict[str, Any], int, str]] = [
    ({}, 400, "document"),
    ({"document": "a", "text": "a"}, 400, "document"),
    ({"document": "nope"}, 404, "document"),
    ({"text": ""}, 400, "text"),
    ({"text": "a", "label": "nope"}, 404, "label"),
    ({"text": "a", "layers": []}, 400, "layers"),
    ({"text": "a", "layers": [3]}, 404, "layers"),
    ({"text": "a", "candidates": 0}, 400, "candidates"),
    ({"text": "a", "candidates": 201}, 400, "candidates"),
    ({"text": "a", "max_set": -1}, 400, "max_set"),
    ({"text": "a", "draws": 101}, 400, "draws"),
    ({"texts": ["a"]}, 400, ""),
]


@pytest.mark.parametrize(("body", "status", "field"), WRONG)
def test_wrong_requests_are_refused(live_case: LiveCase, body: dict[str, Any], status: int, field: str):
    response = post_attribution(live_case, **body)
    assert response.status_code == status, response.text
    problem = response.json()
    assert problem["detail"]
    assert (problem["field"] or "").startswith(field)


def test_what_costs_too_much_is_refused_with_estimate_and_fix(live_case: LiveCase):
    config = ServiceConfig(log="off", warm="off", max_text_tokens=1000)
    with TestClient(create_app(live_case.store, config), base_url="http://127.0.0.1") as client:
        response = client.post("/v1/runs/small/attribution", json={"text": "今日は" * 100})
        problem = response.json()
        assert (response.status_code, problem["type"]) == (413, "/docs/errors/too-costly")
        assert "1 documents of 24 tokens x 114 passes" in problem["detail"]
        assert "service.max_text_tokens" in problem["fix"]
        cheap = {"text": "今日は", "candidates": 3, "max_set": 1, "draws": 1}
        assert client.post("/v1/runs/small/attribution", json=cheap).status_code == 200


def test_a_run_whose_models_are_elsewhere_is_a_problem(client: TestClient):
    response = client.post(f"/v1/runs/{RUN}/attribution", json={"text": "a"})
    assert response.status_code == 409, response.text
    assert response.json()["type"] == "/docs/errors/model-not-here"


def test_lists_give_onset_tokens_on_request(client: TestClient):
    (label, *_) = [row["label"] for row in client.get(f"/v1/runs/{RUN}/labels").json()["items"]]
    path = f"/v1/runs/{RUN}/features"
    assert client.get(path).json()["items"][0]["lift_tokens"] is None
    assert any(row["lift_tokens"] for row in client.get(path, params={"onset": True}).json()["items"])
    of_label = client.get(f"/v1/runs/{RUN}/labels/{label}/features", params={"onset": True}).json()["items"]
    detail = client.get(
        f"/v1/runs/{RUN}/layers/{of_label[0]['layer']}/features/{of_label[0]['feature']}", params={"onset": True}
    ).json()
    assert [row["token"] for row in detail["onset"]["lift_tokens"]] == of_label[0]["lift_tokens"]
    assert of_label[0]["onset_tokens"]
