"""A classifier of each family."""

from __future__ import annotations

from pathlib import Path

import pytest

from tegakari.models.classifier import Classifier
from tests.support.classifier_families import FAMILIES, make_classifier


@pytest.fixture(scope="session", params=FAMILIES)
def classifier(
    request: pytest.FixtureRequest, tiny_tokenizer: Path, tmp_path_factory: pytest.TempPathFactory
) -> Classifier:
    return make_classifier(request.param, tmp_path_factory.mktemp(request.param), tiny_tokenizer)
