"""Texts encoded on request have the activations that the index stored for the same documents."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from tegakari.store.disk.layout import layer_file
from tests.support.live_case import LiveCase

STORED = 2**-10
"""Relative error of a stored activation, which is rounded to 11 bits, with room for another batch's float32."""


def encode(live_case: LiveCase, **body: Any) -> list[dict[str, Any]]:
    response = live_case.client.post("/v1/runs/small/encode", json=body)
    assert response.status_code == 200, response.text
    return response.json()["items"]


def test_pooled_features_are_those_stored(live_case: LiveCase):
    rows = live_case.run.rows("SELECT document, id, predicted_id FROM documents ORDER BY document")
    texts = [live_case.texts[row["id"]] for row in rows]
    compared = 0
    for start in range(0, len(texts), 20):
        for number, encoded in enumerate(encode(live_case, texts=texts[start : start + 20], top=48), start):
            assert encoded["predicted"] == live_case.run.labels[rows[number]["predicted_id"]]
            assert encoded["pooling"] == "max"
            for layer in live_case.run.manifest.saes.layers:
                table = pq.read_table(layer_file(live_case.run.directory, layer)).to_pydict()
                rows_of_document = [row for row, document in enumerate(table["document"]) if document == number]
                stored = {table["feature"][row]: table["activation"][row] for row in rows_of_document}
                computed = {row["feature"]: row["activation"] for row in encoded["features"] if row["layer"] == layer}
                # Near zero, the rounding of another batch decides which features are active.
                assert {f for f, a in stored.items() if a > 1e-4} <= computed.keys()
                assert {f for f, a in computed.items() if a > 1e-4} <= stored.keys()
                for feature in stored.keys() & computed.keys():
                    assert computed[feature] == pytest.approx(stored[feature], rel=STORED, abs=1e-4)
                    compared += 1
    assert compared > 1000


@pytest.mark.parametrize("pooling", ["head", "max", "mean"])
def test_positions_pool_to_the_pooled_activations(live_case: LiveCase, pooling: str):
    text = next(iter(live_case.texts.values()))
    (pooled,) = encode(live_case, texts=[text], pooling=pooling, top=48, layers=[1])
    (single,) = encode(live_case, texts=[text], pooling="none", top=48, layers=[1])
    encoded_tokens = [token for token in single["tokens"] if not token["special"]]
    dense = np.zeros((len(encoded_tokens), 48))
    for row, token in enumerate(encoded_tokens):
        for active in token["features"]:
            dense[row, active["feature"]] = active["activation"]
    expected = {"head": dense[-1], "max": dense.max(0), "mean": dense.mean(0)}[pooling]
    activations = np.zeros(48)
    for active in pooled["features"]:
        activations[active["feature"]] = active["activation"]
    np.testing.assert_allclose(activations, expected, rtol=1e-4, atol=1e-5)


def test_tokens_have_the_characters_they_cover(live_case: LiveCase):
    text = "軽トラ<eos>😀"
    (encoded,) = encode(live_case, texts=[text], pooling="none", top=3)
    tokens = encoded["tokens"]
    assert [token["special"] for token in tokens] == [True] + [False] * (len(tokens) - 1)
    assert tokens[0]["features"] == []
    assert all(text[token["start"] : token["end"]] == token["token"] for token in tokens)
    assert [token["position"] for token in tokens] == list(range(len(tokens)))
    assert tokens[-1]["token"] == "😀"
    assert any(token["features"] for token in tokens)
    for token in tokens:
        for layer in range(3):
            strengths = [row["activation"] for row in token["features"] if row["layer"] == layer]
            assert len(strengths) <= 3
            assert strengths == sorted(strengths, reverse=True)


def test_selected_features_only(live_case: LiveCase):
    text = next(iter(live_case.texts.values()))
    (all_features,) = encode(live_case, texts=[text], pooling="none", top=48, layers=[2])
    feature = all_features["tokens"][-1]["features"][-1]["feature"]
    (selected,) = encode(live_case, texts=[text], pooling="none", layers=[2], features=[feature])
    for complete, token in zip(all_features["tokens"], selected["tokens"], strict=True):
        assert token["features"] == [row for row in complete["features"] if row["feature"] == feature]


def test_lists_come_as_csv_too(live_case: LiveCase):
    response = live_case.client.post("/v1/runs/small/encode?format=csv", json={"texts": ["軽トラ"]})
    assert response.headers["content-type"].startswith("text/csv")
    assert response.text.startswith('"predicted","truncated"')


REFUSED = [
    ({}, 400, None),
    ({"texts": []}, 400, "texts"),
    ({"texts": [""]}, 400, "texts"),
    ({"texts": ["x"] * 65}, 400, "texts"),
    ({"texts": ["x" * 100_001]}, 400, "texts"),
    ({"texts": "x"}, 400, "texts"),
    ({"texts": [1]}, 400, "texts"),
    ({"texts": ["x"], "layers": [3]}, 404, "layers"),
    ({"texts": ["x"], "layers": [-1]}, 400, "layers"),
    ({"texts": ["x"], "layers": [10**30]}, 400, "layers"),
    ({"texts": ["x"], "features": [1]}, 400, "features"),
    ({"texts": ["x"], "layers": [0], "features": [48]}, 404, "features"),
    ({"texts": ["x"], "pooling": "sum"}, 400, "pooling"),
    ({"texts": ["x"], "top": 0}, 400, "top"),
    ({"texts": ["x"], "top": 10**9}, 400, "top"),
    ({"texts": ["x"], "topp": 1}, 400, None),
]


@pytest.mark.parametrize(("body", "status", "field"), REFUSED)
def test_wrong_requests_are_refused(live_case: LiveCase, body: object, status: int, field: str | None):
    response = live_case.client.post("/v1/runs/small/encode", json=body)
    assert response.status_code == status, response.text
    problem = response.json()
    assert problem["status"] == status
    if field:
        assert (problem["field"] or "").startswith(field)


@pytest.mark.parametrize(
    "raw",
    [b"", b"{", b"[]", b"null", b'{"texts": ["\\ud800"]}', b'{"texts": ["a\xff"]}', b'{"texts":' + b"[" * 100_000],
)
def test_damaged_bodies_are_refused(live_case: LiveCase, raw: bytes):
    headers = {"content-type": "application/json"}
    response = live_case.client.post("/v1/runs/small/encode", content=raw, headers=headers)
    assert response.status_code == 400, response.text
    assert response.headers["content-type"] == "application/problem+json"


def test_a_result_that_would_be_too_long_is_refused_before_it_runs(live_case: LiveCase):
    body = {"texts": ["今日は" * 20] * 64, "pooling": "none", "top": 1000}
    response = live_case.client.post("/v1/runs/small/encode", json=body)
    assert response.status_code == 400
    assert response.json()["field"] == "top"
