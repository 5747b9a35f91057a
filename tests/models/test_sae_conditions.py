"""What an SAE was trained on, beside the classifier it is used with: centred models, and doubts."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from transformers import AutoModelForSequenceClassification as AutoClassifier
from transformers import BertConfig, BloomConfig, GPT2Config, GPTNeoXConfig, LlamaConfig

from tegakari.models.architecture import find_blocks
from tegakari.models.classifier import Classifier
from tegakari.models.sae import Sae, TrainingConditions
from tegakari.models.sae_conditions import (
    base_name,
    begins_with_bos,
    grouped_doubts,
    under_conditions,
)
from tegakari.models.sae_formats.saelens import NO_PROCESSING
from tegakari.schemas.errors import SaeError
from tests.support.sae_activations import activations_of

D_MODEL, D_SAE = 32, 20
SIZES: dict[str, Any] = {"vocab_size": 60, "num_labels": 3, "pad_token_id": 0}
MODELS = {
    "gpt2": GPT2Config(n_embd=D_MODEL, n_layer=2, n_head=2, **SIZES),
    "gpt_neox": GPTNeoXConfig(
        hidden_size=D_MODEL, num_hidden_layers=2, num_attention_heads=2, intermediate_size=48, **SIZES
    ),
    "llama": LlamaConfig(
        hidden_size=D_MODEL, num_hidden_layers=2, num_attention_heads=2, intermediate_size=48, **SIZES
    ),
    "bloom": BloomConfig(hidden_size=D_MODEL, n_layer=2, n_head=2, **SIZES),
    "bert": BertConfig(hidden_size=D_MODEL, num_hidden_layers=2, num_attention_heads=2, intermediate_size=48, **SIZES),
}


def random_model(family: str) -> Any:
    torch.manual_seed(0)
    model = AutoClassifier.from_config(copy.deepcopy(MODELS[family])).eval()
    for parameter in model.parameters():
        parameter.data.normal_(0.05, 0.3)
    return model


class Tokenizer:
    """A tokenizer of numbers, with or without BOS."""

    def __init__(self, *, bos: bool, bos_token_id: int = 1) -> None:
        self.bos_token_id = bos_token_id
        self._bos = bos

    def __call__(self, text: str) -> dict[str, list[int]]:
        return {"input_ids": [self.bos_token_id] * self._bos + [5] * len(text)}


def classifier_of(model: Any, *, bos: bool = False, max_length: int = 64) -> Classifier:
    """The parts of a classifier that conditions are compared with."""
    parts = SimpleNamespace(model=model, blocks=find_blocks(model), tokenizer=Tokenizer(bos=bos), max_length=max_length)
    return cast(Classifier, parts)


def sae_of(**settings: Any) -> Sae:
    generator = torch.Generator().manual_seed(1)
    encoder = torch.randn(D_MODEL, D_SAE, generator=generator)
    return Sae(
        encoder, encoder.T, torch.zeros(D_SAE), 0.3 + torch.randn(D_MODEL, generator=generator),
        apply_b_dec_to_input=True, **settings,
    )  # fmt: skip


def residuals_of(model: Any, layer: int) -> torch.Tensor:
    residuals: list[torch.Tensor] = []
    hook = find_blocks(model)[layer].register_forward_hook(
        lambda _module, _inputs, output: residuals.append(output if isinstance(output, torch.Tensor) else output[0])
    )
    with torch.no_grad():
        model(input_ids=torch.arange(5, 25)[None])
    hook.remove()
    return residuals[0][0]


def centre_writing_weights(model: Any) -> None:
    """Subtract from all that is written to the residual its mean over d_model, as TransformerLens does."""
    body = model.base_model
    if model.config.model_type == "gpt2":
        written = [body.wte.weight, body.wpe.weight]
        for block in body.h:
            for part in (block.attn.c_proj, block.mlp.c_proj):  # Conv1D: [in, out]
                written += [part.weight, part.bias]
        for parameter in written:
            parameter.data -= parameter.data.mean(-1, keepdim=True)
        return
    body.embed_in.weight.data -= body.embed_in.weight.data.mean(-1, keepdim=True)
    for block in body.layers:
        for part in (block.attention.dense, block.mlp.dense_4h_to_h):  # Linear: [out, in]
            part.weight.data -= part.weight.data.mean(0, keepdim=True)
            part.bias.data -= part.bias.data.mean()


@pytest.mark.parametrize("family", ["gpt2", "gpt_neox"])
@pytest.mark.parametrize("layer", [0, 1])
def test_an_sae_of_a_centred_model_sees_the_residuals_of_that_model(family: str, layer: int):
    model, centred_model = random_model(family), random_model(family)
    centre_writing_weights(centred_model)
    h, expected = residuals_of(model, layer), residuals_of(centred_model, layer)
    torch.testing.assert_close(h - h.mean(1, keepdim=True), expected, rtol=1e-4, atol=1e-4)
    (sae,) = under_conditions({layer: sae_of(centred=True)}, classifier_of(model)).values()
    plain = sae_of()
    a = activations_of(sae, h.numpy())
    torch.testing.assert_close(a, activations_of(plain, expected.numpy()), rtol=1e-4, atol=1e-3)
    assert not torch.allclose(a, activations_of(plain, h.numpy()), atol=1e-2)
    reconstruction = plain.decode(a, expected) + h.mean(1, keepdim=True)
    torch.testing.assert_close(sae.decode(a, h), reconstruction, rtol=1e-4, atol=1e-3)


def test_centring_has_no_effect_without_layer_norm_and_is_refused_where_it_is_not_exact():
    (sae,) = under_conditions({1: sae_of(centred=True)}, classifier_of(random_model("llama"))).values()
    assert not sae.centred
    for family in ("bloom", "bert"):  # a LayerNorm of the embedding or after each block undoes the centring
        with pytest.raises(SaeError, match=f"layer 1 .*center_writing_weights, and for {family}"):
            under_conditions({1: sae_of(centred=True)}, classifier_of(random_model(family)))


def doubts_of(training: TrainingConditions, model: Any, **settings: Any) -> tuple[str, ...]:
    return under_conditions({0: sae_of(training=training)}, classifier_of(model, **settings))[0].doubts


def test_differences_of_the_tokens_are_doubts():
    model = random_model("llama")
    assert doubts_of(TrainingConditions(), model, bos=True) == ()
    assert doubts_of(TrainingConditions(prepend_bos=True, context_size=64), model, bos=True) == ()
    assert doubts_of(TrainingConditions(prepend_bos=False, context_size=128), model) == ()
    (doubt,) = doubts_of(TrainingConditions(prepend_bos=True), model)
    assert doubt.startswith("it was trained on documents with a BOS token")
    (doubt,) = doubts_of(TrainingConditions(prepend_bos=False), model, bos=True)
    assert doubt.startswith("it was trained on documents without a BOS token")
    (doubt,) = doubts_of(TrainingConditions(context_size=32), model)
    assert "up to 32 tokens, the classifier reads up to 64" in doubt


def test_a_bos_token_of_id_0_is_one():
    """As GPT-NeoX has it."""
    classifier = classifier_of(random_model("gpt_neox"))
    for bos in (True, False):
        cast(Any, classifier).tokenizer = Tokenizer(bos=bos, bos_token_id=0)
        assert begins_with_bos(classifier) == bos


@pytest.mark.parametrize(
    ("trained_on", "base", "same"),
    [
        ("gemma-2-2b", "google/gemma-2-2b", True),
        ("google/gemma-2-2b", "google/gemma-2-2b-it", False),
        ("gpt2-small", "openai-community/gpt2", True),
        ("EleutherAI/pythia-70m-deduped", "EleutherAI/pythia-70m", False),
        ("HuggingFaceTB/SmolLM2-135M", "/models/smollm2", True),
        ("google/gemma-2-2b", "/models/smollm2", False),
    ],
)
def test_another_model_is_a_doubt(trained_on: str, base: str, same: bool, tmp_path: Path):
    model = random_model("llama")
    assert doubts_of(TrainingConditions(model_name=trained_on), model) == ()  # nothing says what the base is
    (tmp_path / "config.json").write_text(json.dumps({"_name_or_path": base}))
    model.config.name_or_path = str(tmp_path)
    assert base_name(classifier_of(model)) == base
    doubts = doubts_of(TrainingConditions(model_name=trained_on), model)
    assert doubts == (() if same else (f"it was trained on {trained_on}, the classifier's base is {base}",))


def test_what_is_assumed_about_centring_is_said():
    training = TrainingConditions(centring_assumed=True)
    model = random_model("gpt2")
    (doubt,) = doubts_of(training, model)
    assert "read without centring" in doubt
    centred = sae_of(training=training, centred=True)
    (doubt,) = under_conditions({0: centred}, classifier_of(model))[0].doubts
    assert ".".join(map(str, NO_PROCESSING)) in doubt
    assert doubts_of(training, random_model("llama")) == ()


def test_doubts_are_grouped_by_layers():
    saes = {layer: replace(sae_of(), doubts=("it is odd",)) for layer in (0, 1, 2, 5)}
    saes[1] = replace(saes[1], doubts=("it is odd", "it is even"))
    assert grouped_doubts(saes) == ["layers 0, 1, 2 and 5: it is odd", "layer 1: it is even"]
    del saes[5]
    assert grouped_doubts(saes)[0] == "layers 0 to 2: it is odd"
    assert grouped_doubts({0: sae_of()}) == []
