"""Texts classified on request get the logits of transformers; a run without its model is a problem."""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from tegakari.indexer.pipeline import index
from tests.support.live_case import LiveCase
from tests.support.service import client_of
from tests.support.small_case import SmallCase, with_index


def test_logits_are_those_of_transformers(live_case: LiveCase):
    path = live_case.case.config.classifier.path
    tokenizer = AutoTokenizer.from_pretrained(path)
    model = AutoModelForSequenceClassification.from_pretrained(path, attn_implementation="eager").eval()
    model.config.pad_token_id = tokenizer.pad_token_id
    texts = list(live_case.texts.values())[:9]
    items = live_case.client.post("/v1/runs/small/classify", json={"texts": texts}).json()["items"]
    for text, item in zip(texts, items, strict=True):
        ids = tokenizer(text, truncation=True, max_length=24, return_tensors="pt")["input_ids"]
        with torch.no_grad():
            logits = model(input_ids=ids).logits[0].numpy()
        np.testing.assert_allclose([row["logit"] for row in item["labels"]], logits, rtol=1e-4, atol=1e-5)
        assert item["predicted"] == model.config.id2label[int(logits.argmax())]
        assert sum(row["probability"] for row in item["labels"]) == pytest.approx(1, abs=1e-5)
        assert item["probability"] == max(row["probability"] for row in item["labels"])
        assert item["tokens"] == len(ids[0])


def test_long_texts_are_marked_as_truncated(live_case: LiveCase):
    (item,) = live_case.client.post("/v1/runs/small/classify", json={"texts": ["今日は" * 1000]}).json()["items"]
    assert item["truncated"]
    assert item["tokens"] == 24


def test_simultaneous_requests_get_their_own_results(live_case: LiveCase):
    texts = list(live_case.texts.values())

    def classify(text: str) -> dict:
        response = live_case.client.post("/v1/runs/small/classify", json={"texts": [text]})
        assert response.status_code == 200, response.text
        return response.json()["items"][0]

    sequential = [classify(text) for text in texts]
    with ThreadPoolExecutor(8) as pool:
        for one, other in zip(sequential, pool.map(classify, texts), strict=True):
            assert one["predicted"] == other["predicted"]
            assert one["probability"] == pytest.approx(other["probability"], abs=1e-5)


@pytest.mark.parametrize("state", ["missing", "changed"])
def test_a_missing_or_changed_model_is_a_problem_and_reading_goes_on(small_case: SmallCase, tmp_path: Path, state: str):
    classifier, saes = tmp_path / "classifier", tmp_path / "saes"
    shutil.copytree(small_case.config.classifier.path, classifier)
    shutil.copytree(small_case.config.saes.path, saes)
    config = with_index(small_case, tmp_path / "store")
    config = msgspec.structs.replace(
        config,
        classifier=msgspec.structs.replace(config.classifier, path=str(classifier)),
        saes=msgspec.structs.replace(config.saes, path=str(saes)),
    )
    index(config)
    if state == "missing":
        shutil.rmtree(classifier)
    else:
        settings = classifier / "config.json"
        settings.write_text(settings.read_text().replace("{", '{"note": 1,', 1))
    with client_of(tmp_path / "store") as client:
        for route in ("encode", "classify"):
            response = client.post(f"/v1/runs/small/{route}", json={"texts": ["軽トラ"]})
            assert response.status_code == 409, response.text
            assert response.json()["type"] == "/docs/errors/model-not-here"
            assert str(tmp_path) not in response.text
        assert client.get("/v1/runs/small/labels").status_code == 200
