"""Values that are NaN or infinite are found by part of the model and document; nothing is predicted from them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn
from transformers import BertConfig, LlamaConfig, PreTrainedConfig

from tegakari.models.classifier import Classifier
from tegakari.models.finite import check_finite, first_not_finite
from tegakari.models.loading import load_classifier
from tegakari.schemas.errors import ModelError
from tests.support.model_directories import change_weights, save_classifier

TEXTS = ["1 2 3", "the quick", "1 2"]


def load(path: Path, family: type[PreTrainedConfig] = LlamaConfig) -> Classifier:
    return load_classifier(save_classifier(path, family), max_length=32, device="cpu")


def poison(module: nn.Module, value: float) -> None:
    with torch.no_grad():
        next(module.parameters()).view(-1)[0] = value


PLACES: dict[str, Callable[[Classifier], nn.Module]] = {
    "embedding": lambda classifier: classifier.model.get_input_embeddings(),
    "layer 0": lambda classifier: classifier.blocks[0].mlp,  # type: ignore[return-value]
    "layer 1": lambda classifier: classifier.blocks[1].mlp,  # type: ignore[return-value]
    "final norm": lambda classifier: classifier.model.base_model.norm,  # type: ignore[return-value]
    "head": lambda classifier: classifier.model.score,  # type: ignore[return-value]
}


@pytest.mark.parametrize("place", PLACES)
def test_the_part_of_the_model_is_found(place: str, tmp_path: Path):
    classifier = load(tmp_path)
    documents = classifier.tokenize(TEXTS)
    assert first_not_finite(classifier, documents[0]) is None
    if place == "embedding":
        with torch.no_grad():
            classifier.model.get_input_embeddings().weight[documents[1].input_ids[-1]] = float("nan")
    else:
        poison(PLACES[place](classifier), float("nan"))
    assert first_not_finite(classifier, documents[1]) == place
    logits = classifier.run(classifier.batch(documents)).logits
    with pytest.raises(ModelError) as caught:
        check_finite(classifier, logits, documents, [f"document {number}" for number in "abc"])
    document = "b" if place == "embedding" else "a"
    assert f"{place}: values of document {document} are NaN or infinite" in caught.value.message
    assert "the weights hold NaN or infinity: " in caught.value.message


def test_an_overflow_names_the_dtype(tmp_path: Path):
    """Weights of 3e38 are numbers in bfloat16; their products are not."""
    save_classifier(tmp_path)
    classifier = load_classifier(tmp_path, max_length=32, device="cpu", dtype="bfloat16")
    with torch.no_grad():
        classifier.model.score.weight[:] = 3e38  # type: ignore[union-attr]
    documents = classifier.tokenize(TEXTS)
    logits = classifier.run(classifier.batch(documents)).logits
    with pytest.raises(ModelError, match=r"head: values of document a .* values overflow in bfloat16") as caught:
        check_finite(classifier, logits, documents, [f"document {number}" for number in "abc"])
    assert caught.value.fix == 'set index.dtype = "float32"'


@pytest.mark.parametrize("family", [LlamaConfig, BertConfig])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("part", ["q_proj|query", "layers.1|layer.1", "norm.weight|pooler", "score|classifier"])
def test_weights_that_are_not_finite_are_refused_at_load(
    part: str, value: float, family: type[PreTrainedConfig], tmp_path: Path
):
    save_classifier(tmp_path, family)
    names: list[str] = []

    def spoil(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        name = next(
            name for name, value in sorted(tensors.items()) if value.ndim and any(p in name for p in part.split("|"))
        )
        names.append(name)
        return {**tensors, name: torch.full_like(tensors[name], value)}

    change_weights(tmp_path, spoil)
    with pytest.raises(ModelError) as caught:
        load_classifier(tmp_path, max_length=32, device="cpu")
    assert "NaN or infinit" in caught.value.message
    assert names[0] in caught.value.message
