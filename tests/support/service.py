"""The service in tests: names of the drawn runs, clients in-process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from litestar.testing import TestClient

from tegakari.analyses.specificity import specificity
from tegakari.schemas.analysis_kinds import SPECIFICITY_ANALYSIS
from tegakari.schemas.segments import segment_of
from tegakari.schemas.specificity import SpecificitySettings
from tegakari.service.app import create_app
from tegakari.store import Run
from tegakari.store.results import analysis_key
from tests.support.factories import D_MODEL, LABELS

RUN = "demo-jpn"
UNEVEN = "uneven"
UNEVEN_DOCUMENTS = (6, 1, 0, 2, 3, 4)
"""Documents per label of the run UNEVEN: one label has one document, one has none."""

_RNG = np.random.default_rng(5)
DIRECTIONS = {layer: _RNG.normal(size=(40, D_MODEL)).astype(np.float32) for layer in range(3)}
"""Decoder directions of the run RUN: layer -> float32 [features, d_model]."""
EMBEDDINGS = _RNG.normal(size=(6 * len(LABELS), D_MODEL)).astype(np.float32)
"""Embeddings of the documents of the run RUN: float32 [documents, d_model]."""


segment = segment_of


@contextmanager
def client_of(directory: Path) -> Iterator[TestClient]:
    """A client of an application over a store, in this process."""
    with TestClient(create_app(directory), base_url="http://127.0.0.1", raise_server_exceptions=False) as client:
        yield client


def get(client: TestClient | httpx.Client, path: str, **parameters: object) -> Any:
    """The JSON of a successful response."""
    response = client.get(path, params={name: str(value) for name, value in parameters.items()})
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "application/json"
    return response.json()


def analysis_of(run: Run) -> str:
    """Id of a stored analysis of a run, with other settings than the defaults."""
    settings = SpecificitySettings(permutations=20)
    specificity(run, settings)
    return analysis_key(SPECIFICITY_ANALYSIS, [run.manifest], settings)
