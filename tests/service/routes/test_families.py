"""Runs of an encoder whose configuration has other names than Llama's: knockouts are computed, circuits refused."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from litestar.testing import TestClient

from tegakari.indexer.pipeline import index
from tests.support.service import client_of
from tools.family_trial import LABELS, family_config, make_inputs
from tools.tiny_families import save_tiny_model


@pytest.fixture(scope="module", params=["distilbert", "gpt2"])
def client(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, TestClient]]:
    root: Path = tmp_path_factory.mktemp(request.param)
    save_tiny_model(request.param, LABELS, root / "classifier")
    index(family_config(request.param, make_inputs(root), root))
    with client_of(root / "store") as opened:
        yield request.param, opened


def test_a_knockout_is_computed(client: tuple[str, TestClient]):
    settings = {"features": [{"layer": 0, "feature": 1}], "documents_of": LABELS[0], "draws": 2}
    response = client[1].post("/v1/runs/trial/knockouts", json=settings, params={"wait": 60})
    assert response.status_code == 200, response.text
    assert response.json()["result"]["documents"] == 4


def test_a_circuit_of_an_encoder_is_refused_in_words(client: tuple[str, TestClient]):
    family, session = client
    response = session.get("/v1/runs/trial/circuit")
    if family == "gpt2":  # it reads the last position: none is stored
        assert response.status_code == 404
        return
    assert response.status_code == 400
    problem = response.json()
    assert "reads the first position of a document, and circuits patch the last one" in problem["detail"]
    assert problem["field"] == "run"
    assert "use a run of a decoder" in problem["fix"]
