"""Facts that config.json declares are used as transformers uses them, or refused where they contradict each other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    BertConfig,
    GPT2Config,
    GPTJConfig,
    LlamaConfig,
    OPTConfig,
    PreTrainedConfig,
    RobertaConfig,
    XLNetConfig,
)

from tegakari.models.declared import position_limit
from tegakari.models.loading import load_classifier
from tegakari.schemas.errors import ModelError
from tests.support.model_directories import change_config, save_classifier

TEXTS = ["1 2 3 4 5 6 7 8", "the quick", "ありがとう", "x"]


def refusal(directory: Path, max_length: int = 32) -> ModelError:
    with pytest.raises(ModelError) as caught:
        load_classifier(directory, max_length=max_length, device="cpu")
    assert caught.value.fix
    return caught.value


def plain_logits(directory: Path, documents: list[list[int]]) -> torch.Tensor:
    """Logits of transformers, one document after another, so that no batch is padded."""
    model = AutoModelForSequenceClassification.from_pretrained(directory).eval()
    with torch.no_grad():
        return torch.cat([model(torch.tensor([ids])).logits for ids in documents])


@pytest.mark.parametrize("end", [False, True], ids=["", "</s>"])
@pytest.mark.parametrize("pad", [False, True], ids=["", "<pad>"])
@pytest.mark.parametrize("declared", [None, 0, 1, 3, -1])
@pytest.mark.parametrize("family", [LlamaConfig, GPT2Config, BertConfig, RobertaConfig])
def test_logits_are_those_of_transformers_whatever_pads(
    family: type[PreTrainedConfig], declared: int | None, pad: bool, end: bool, tmp_path: Path
):
    """The head reads the last token other than the declared padding, and without one the last token of all."""
    save_classifier(tmp_path, family, end=end, pad=pad, pad_token_id=declared)
    if family is RobertaConfig and declared is None:
        assert "cannot read two short texts" in refusal(tmp_path).message  # nor can transformers
        return
    assert AutoConfig.from_pretrained(tmp_path).pad_token_id == declared
    classifier = load_classifier(tmp_path, max_length=32, device="cpu")
    documents = classifier.tokenize(TEXTS)
    logits = classifier.run(classifier.batch(documents)).logits
    ids = [document.input_ids for document in documents]
    torch.testing.assert_close(logits, plain_logits(tmp_path, ids), atol=1e-5, rtol=1e-5)
    if classifier.head == "last":
        expected = [max(i for i, number in enumerate(row) if number != declared) for row in ids]
        assert [document.head for document in documents] == expected


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"problem_type": "regression"}, "predicts a number"),
        ({"id2label": {"0": "a"}}, "predicts a number"),
        ({"id2label": None, "label2id": None, "num_labels": 1}, "predicts a number"),
        ({"problem_type": "multi_label_classification"}, "several labels or none"),
        ({"id2label": {"1": "a", "2": "b", "3": "c"}}, "names 3 labels, but not label 0; its largest id is 3"),
        ({"id2label": {"0": "a", "1": "b", "3": "c"}}, "but not label 2"),
        ({"id2label": {"0": "a", "1": "b", "2": "a"}}, "names 2 labels 'a'"),
        ({"id2label": {"0": "a", "1": "", "2": "c"}}, "label 1 of `id2label` has no name"),
        ({"id2label": {"a": "0", "b": "1", "c": "2"}}, "has the id 'a'"),
        ({"num_labels": 5}, "`num_labels` is 5, but `id2label` names 3"),
        ({"id2label": {"0": "a", "1": "b"}}, "declares 2 labels, but score.weight has the shape [3, 16]"),
        (
            {"id2label": {"0": "a", "1": "b", "2": "c"}, "label2id": {"a": 0, "b": 2, "c": 1}},
            "label 1 is 'b' in `id2label`, but 2 in `label2id`",
        ),
    ],
    ids=str,
)
def test_contradictions_about_labels(changes: dict[str, Any], words: str, tmp_path: Path):
    save_classifier(tmp_path, id2label={0: "a", 1: "b", 2: "c"})
    change_config(tmp_path, **changes)
    assert words in refusal(tmp_path).message


def test_labels_are_in_the_order_of_their_ids(tmp_path: Path):
    save_classifier(tmp_path)
    names = {"2": "車/軽", "0": "a?b#c", "1": 7}
    change_config(tmp_path, id2label=names, label2id={"LABEL_0": 0, "LABEL_1": 1})
    assert load_classifier(tmp_path, max_length=32, device="cpu").labels == ("a?b#c", "7", "車/軽")


def test_a_token_without_embedding_is_named(tmp_path: Path):
    save_classifier(tmp_path, vocab_size=300)
    error = refusal(tmp_path)
    assert "the tokenizer has token 300 (" in error.message
    assert "embeds only 300 tokens" in error.message


def test_a_special_token_that_no_document_has_needs_no_embedding(tmp_path: Path):
    from transformers import AutoTokenizer

    save_classifier(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    tokenizer.add_tokens(["<image>"], special_tokens=True)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<image>"]})
    size = len(tokenizer)
    tokenizer.save_pretrained(tmp_path)
    save = tmp_path / "smaller"
    save_classifier(save, vocab_size=size - 1)
    tokenizer.save_pretrained(save)
    classifier = load_classifier(save, max_length=32, device="cpu")
    (document,) = classifier.tokenize(["<image> x"])
    assert max(document.input_ids) < size - 1


LIMITS: dict[type[PreTrainedConfig], int | None] = {
    BertConfig: 40,
    RobertaConfig: 39,  # row 0 is of padding
    GPT2Config: 40,
    OPTConfig: 40,
    GPTJConfig: 40,
    XLNetConfig: None,
    LlamaConfig: None,
}
"""Positions of a model whose configuration has 40, with padding token 0."""


def positions_of(family: type[PreTrainedConfig]) -> PreTrainedConfig:
    sizes = {"vocab_size": 50, "hidden_size": 16, "num_attention_heads": 2, "num_hidden_layers": 1, "pad_token_id": 0}
    own = {
        OPTConfig: {"word_embed_proj_dim": 16, "ffn_dim": 32, "max_position_embeddings": 40},
        XLNetConfig: {"d_inner": 32, "d_head": 8},
        GPTJConfig: {"rotary_dim": 4, "max_position_embeddings": 40},
        LlamaConfig: {"intermediate_size": 32, "max_position_embeddings": 40},
    }
    return family(**sizes, **own.get(family, {"max_position_embeddings": 40}))


@pytest.mark.parametrize("family", LIMITS)
def test_the_limit_of_positions_is_where_the_model_fails(family: type[PreTrainedConfig]):
    model = AutoModelForSequenceClassification.from_config(positions_of(family)).eval()
    limit = position_limit(model)
    assert (limit and limit[0]) == LIMITS[family]

    def run(length: int) -> None:
        with torch.no_grad():
            model(torch.full((1, length), 5))

    run(LIMITS[family] or 80)
    if limit is not None:
        with pytest.raises((IndexError, RuntimeError)):
            run(limit[0] + 1)


def test_positions_of_roberta_begin_behind_its_padding_token():
    """As of Japanese RoBERTa, whose padding token is 3: 514 rows hold 510 positions."""
    config = RobertaConfig(max_position_embeddings=514, pad_token_id=3, hidden_size=8, intermediate_size=8,
                           num_attention_heads=2, num_hidden_layers=1, vocab_size=50)  # fmt: skip
    limit = position_limit(AutoModelForSequenceClassification.from_config(config))
    assert limit is not None
    assert limit[0] == 510


@pytest.mark.parametrize("family", [BertConfig, RobertaConfig])
def test_documents_longer_than_the_positions_are_refused(family: type[PreTrainedConfig], tmp_path: Path):
    save_classifier(tmp_path, family, max_position_embeddings=40)
    limit = LIMITS[family]
    assert limit is not None
    load_classifier(tmp_path, max_length=limit, device="cpu")
    error = refusal(tmp_path, limit + 1)
    assert (error.field, error.fix) == ("classifier.max_length", f"set it to {limit} or less")


@pytest.mark.parametrize(
    "scaling",
    [
        {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 10000.0},
        {
            "rope_type": "longrope",
            "rope_theta": 10000.0,
            "long_factor": [4.0] * 4,
            "short_factor": [1.0] * 4,
            "original_max_position_embeddings": 16,
        },
    ],
    ids=["dynamic", "longrope"],
)
def test_rotary_scaling_that_depends_on_the_batch(scaling: dict[str, Any], tmp_path: Path):
    """Beyond the limit, a short document has other logits beside a long one; up to it, the same."""
    limit = scaling.get("original_max_position_embeddings", 16)
    save_classifier(tmp_path, max_position_embeddings=16 if scaling["rope_type"] == "dynamic" else 64,
                    rope_parameters=scaling)  # fmt: skip
    error = refusal(tmp_path, limit + 1)
    assert error.field == "classifier.max_length"
    assert "is the same for all documents" in error.message
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path).eval()

    def short_logits(longest: int) -> torch.Tensor:
        ids = torch.zeros(2, longest, dtype=torch.int64)
        ids[0, :6] = ids[1] = 9
        ids[0, :6] = torch.arange(5, 11)
        mask = (ids != 0).long()
        with torch.no_grad():
            return model(ids, attention_mask=mask).logits[0]

    alone = short_logits(6)
    torch.testing.assert_close(short_logits(limit), alone)
    assert (short_logits(limit + 24) - alone).abs().max() > 1e-3
