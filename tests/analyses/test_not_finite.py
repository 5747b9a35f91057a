"""A document whose values are not finite ends an index, a classification and a knockout with an error that names it."""

from __future__ import annotations

import shutil
from pathlib import Path

import msgspec
import pytest
import torch

from tegakari.analyses.engine.run_models import RunModels
from tegakari.analyses.inference import classify_texts
from tegakari.analyses.knockout.forward import FeatureAblation, run_feature_ablations
from tegakari.indexer.index_models import load_models
from tegakari.indexer.pipeline import index
from tegakari.schemas.errors import ModelError
from tegakari.schemas.knockout import LayerFeature
from tegakari.schemas.progress import NoProgress
from tegakari.store import Store
from tests.support.model_directories import change_weights
from tests.support.small_case import LABELS, SmallCase, with_index

CLUE = LABELS["食品?"]


@pytest.fixture(scope="module")
def spoiled(small_case: SmallCase, tmp_path_factory: pytest.TempPathFactory) -> SmallCase:
    """The small case whose embedding of a token, of one label's clue alone, is NaN."""
    path = tmp_path_factory.mktemp("spoiled") / "classifier"
    shutil.copytree(small_case.config.classifier.path, path)
    classifier, _ = load_models(small_case.config)
    ordinary = {token for text in (*LABELS.values(), "今日は") if text != CLUE for token in _ids(classifier, text)}
    (token, *_) = [token for token in _ids(classifier, CLUE) if token not in ordinary]

    def spoil(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        tensors["model.embed_tokens.weight"][token] = float("nan")
        return tensors

    change_weights(path, spoil)
    settings = msgspec.structs.replace(small_case.config.classifier, path=str(path))
    return small_case._replace(config=msgspec.structs.replace(small_case.config, classifier=settings))


def _ids(classifier, text: str) -> list[int]:
    (document,) = classifier.tokenize([text])
    return [number for number, special in zip(document.input_ids, document.special, strict=True) if not special]


@pytest.fixture(scope="module")
def models(spoiled: SmallCase) -> RunModels:
    return RunModels(*load_models(spoiled.config))


def test_an_index_names_the_document_and_publishes_nothing(spoiled: SmallCase, tmp_path: Path):
    with pytest.raises(ModelError) as caught:
        index(with_index(spoiled, tmp_path))
    ids = [number for number, _, _, text in spoiled.documents if CLUE in text]
    assert any(f"embedding: values of document {number!r} are NaN" in caught.value.message for number in ids)
    assert "model.embed_tokens.weight" in caught.value.message
    assert Store(tmp_path).runs() == []


def test_a_classification_names_the_text(models: RunModels):
    assert classify_texts(models, ["今日は"])[0].predicted in LABELS
    with pytest.raises(ModelError, match="embedding: values of text 1 are NaN"):
        classify_texts(models, ["今日は", CLUE])


def test_a_knockout_names_the_text(models: RunModels):
    ablation = FeatureAblation((LayerFeature(1, 0),), "error_preserving", "all", (1,))
    run_feature_ablations(models, ["今日は"], [ablation], NoProgress())
    with pytest.raises(ModelError, match=f"embedding: values of '{CLUE}'"):
        run_feature_ablations(models, ["今日は", CLUE], [ablation], NoProgress())
