"""A classifier of which a weight is random, or a stored weight unused, is refused by the name of that weight."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers import AutoModel, AutoModelForSequenceClassification

from tegakari.indexer.training.classifier.base import load_base_model
from tegakari.models.loading import load_classifier
from tegakari.schemas.errors import ModelError
from tests.support.model_directories import FAMILIES, change_config, change_weights, save_classifier

Tensors = dict[str, Tensor]


def without(part: str) -> Callable[[Tensors], Tensors]:
    return lambda tensors: {name: tensor for name, tensor in tensors.items() if part not in name}


def prefixed(prefix: str) -> Callable[[Tensors], Tensors]:
    return lambda tensors: {prefix + name: tensor for name, tensor in tensors.items()}


def plus(**more: Tensor) -> Callable[[Tensors], Tensors]:
    return lambda tensors: {**tensors, **{name.replace("__", "."): tensor for name, tensor in more.items()}}


def renamed(old: str, new: str) -> Callable[[Tensors], Tensors]:
    return lambda tensors: {name.replace(old, new): tensor for name, tensor in tensors.items()}


def packed(tensors: Tensors) -> Tensors:
    name = "model.layers.1.mlp.up_proj.weight"
    return {**tensors, name: (100 * tensors[name]).to(torch.int8)}


def adapted(tensors: Tensors) -> Tensors:
    name = "model.layers.0.self_attn.q_proj"
    base = tensors.pop(f"{name}.weight")
    lora = torch.ones(2, 16)
    return {**tensors, f"{name}.base_layer.weight": base, f"{name}.lora_A.default.weight": lora}


def third_block(tensors: Tensors) -> Tensors:
    more = {name.replace(".1.", ".2."): tensor for name, tensor in tensors.items() if ".layers.1." in name}
    return {**tensors, **more}


SPOILED: dict[str, tuple[Callable[[Tensors], Tensors], str, str]] = {
    "no head": (without("score"), "has no score.weight: it is a base model", "tegakari finetune"),
    "no block": (without("layers.1."), "lacks 9 of the model's weights, or has them in another shape: "
                 "model.layers.1.input_layernorm.weight", "architecture"),
    "no norm": (without("model.norm"), "model.norm.weight", "architecture"),
    "no embedding": (without("embed_tokens"), "model.embed_tokens.weight", "architecture"),
    "torch.compile": (prefixed("_orig_mod."), "have the prefix '_orig_mod.'", "model._orig_mod"),
    "DataParallel": (prefixed("module."), "have the prefix 'module.'", "model.module"),
    "both": (prefixed("module._orig_mod."), "have the prefix 'module._orig_mod.'", "_orig_mod"),
    "of a wrapper": (prefixed("classifier."), "have the prefix 'classifier.'", "remove 'classifier.'"),
    "renamed block": (renamed("self_attn", "attention"), "lacks 8 of the model's weights", "architecture"),
    "renamed head": (renamed("score", "classification_head"), "has no score.weight", "finetune"),
    "a bias of the head": (plus(score__bias=torch.ones(3)), "does not have: score.bias", "save_pretrained"),
    "a bias of a block": (
        plus(model__layers__0__self_attn__q_proj__bias=torch.ones(16)),
        "does not have: model.layers.0.self_attn.q_proj.bias",
        "save_pretrained",
    ),
    "a third block": (third_block, "does not have: model.layers.2.input_layernorm.weight", "save_pretrained"),
    "an adapter": (adapted, "an adapter that is not merged", "merge_and_unload"),
    "packed integers": (packed, "model.layers.1.mlp.up_proj.weight is of type I8", "before its quantisation"),
    "scales of a quantisation": (
        plus(model__layers__0__mlp__up_proj__weight_scale=torch.ones(1)),
        "holds quantised weights",
        "before its quantisation",
    ),
    "a head of other labels": (
        lambda tensors: {**tensors, "score.weight": torch.ones(5, 16)},
        "declares 3 labels, but score.weight has the shape [5, 16], not [3, 16]",
        "id2label",
    ),
    "another width": (
        lambda tensors: {**tensors, "model.layers.1.mlp.up_proj.weight": torch.ones(3, 3)},
        "in another shape: model.layers.1.mlp.up_proj.weight",
        "architecture",
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_classifier(tmp_path_factory.mktemp("llama"))


def copy(source: Path, target: Path) -> Path:
    for file in source.iterdir():
        (target / file.name).write_bytes(file.read_bytes())
    return target


@pytest.mark.parametrize("kind", SPOILED)
def test_weights_that_are_missing_or_left_over(kind: str, llama: Path, tmp_path: Path):
    spoil, words, fix = SPOILED[kind]
    change_weights(copy(llama, tmp_path), spoil)
    with pytest.raises(ModelError) as caught:
        load_classifier(tmp_path, max_length=32, device="cpu")
    assert words in caught.value.message
    assert fix in (caught.value.fix or "")
    assert caught.value.field == "classifier.path"


def test_a_pooler_that_an_encoder_reads_must_be_there(tmp_path: Path):
    save_classifier(tmp_path, FAMILIES["bert"])
    change_weights(tmp_path, without("pooler"))
    with pytest.raises(ModelError, match=r"bert\.pooler\.dense\.bias"):
        load_classifier(tmp_path, max_length=32, device="cpu")


HARMLESS: dict[str, tuple[str, Callable[[Tensors], Tensors]]] = {
    "a language model's head": ("llama", plus(lm_head__weight=torch.ones(400, 16))),
    "frequencies of old versions": ("llama", plus(model__layers__0__self_attn__rotary_emb__inv_freq=torch.ones(4))),
    "heads of pre-training": ("bert", plus(cls__predictions__bias=torch.ones(400))),
    "position ids of old versions": ("bert", plus(bert__embeddings__position_ids=torch.arange(64)[None])),
    "a pooler that nothing reads": ("roberta", plus(roberta__pooler__dense__weight=torch.ones(16, 16))),
}


@pytest.mark.parametrize("kind", HARMLESS)
def test_weights_of_other_tasks_and_versions_change_nothing(kind: str, tmp_path: Path):
    family, change = HARMLESS[kind]
    save_classifier(tmp_path, FAMILIES[family])
    before = load_classifier(tmp_path, max_length=32, device="cpu")
    change_weights(tmp_path, change)
    after = load_classifier(tmp_path, max_length=32, device="cpu")
    batch = before.batch(before.tokenize(["1 2 3", "the quick"]))
    assert torch.equal(before.run(batch).logits, after.run(batch).logits)


@pytest.mark.parametrize("family", FAMILIES)
def test_what_transformers_saves_is_accepted_and_is_the_same_model(family: str, tmp_path: Path):
    save_classifier(tmp_path, FAMILIES[family], tie_word_embeddings=True)
    plain = AutoModelForSequenceClassification.from_pretrained(tmp_path).eval()
    classifier = load_classifier(tmp_path, max_length=32, device="cpu")
    batch = classifier.batch(classifier.tokenize(["1 2 3"]))
    torch.testing.assert_close(classifier.run(batch).logits, plain(batch.input_ids).logits.detach())


def test_shards_are_read_and_a_missing_one_is_named(llama: Path, tmp_path: Path):
    model = AutoModelForSequenceClassification.from_pretrained(llama)
    copy(llama, tmp_path)
    (tmp_path / "model.safetensors").unlink()
    model.save_pretrained(tmp_path, max_shard_size="20KB")
    shards = sorted(tmp_path.glob("model-*.safetensors"))
    assert len(shards) > 1
    load_classifier(tmp_path, max_length=32, device="cpu")
    shards[1].unlink()
    with pytest.raises(ModelError, match=rf"lacks {shards[1].name}, one of the {len(shards)} files"):
        load_classifier(tmp_path, max_length=32, device="cpu")
    (tmp_path / "model.safetensors.index.json").unlink()
    with pytest.raises(ModelError, match=r"neither model\.safetensors nor model\.safetensors\.index\.json"):
        load_classifier(tmp_path, max_length=32, device="cpu")


@pytest.mark.parametrize("family", FAMILIES)
def test_a_base_may_lack_its_head_alone(family: str, tmp_path: Path):
    save_classifier(tmp_path, FAMILIES[family])
    model = AutoModel.from_pretrained(tmp_path)
    model.save_pretrained(tmp_path)
    load_base_model(tmp_path, ["a", "b"], 0, 0)
    change_weights(tmp_path, prefixed("_orig_mod."))
    with pytest.raises(ModelError, match="_orig_mod") as caught:
        load_base_model(tmp_path, ["a", "b"], 0, 0)
    assert caught.value.field == "classifier.base"


@pytest.mark.parametrize("whole", [True, False], ids=["classifier", "body alone"])
def test_fewer_blocks_than_the_file_has_are_refused_for_a_base_too(whole: bool, llama: Path, tmp_path: Path):
    copy(llama, tmp_path)
    if not whole:
        AutoModel.from_pretrained(tmp_path).save_pretrained(tmp_path)
    change_config(tmp_path, num_hidden_layers=1)
    with pytest.raises(ModelError, match=r"does not have: (model\.)?layers\.1\."):
        load_base_model(tmp_path, ["a", "b"], 0, 0)
