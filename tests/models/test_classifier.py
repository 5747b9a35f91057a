"""Residuals, special positions, logits and embeddings of a classifier against a plain transformers model."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer, BertConfig, LlamaConfig, Qwen2Config

from tegakari.models.loading import load_classifier
from tegakari.schemas.errors import ModelError
from tests.support.tokenizer_kinds import save_qwen2_tokenizer

TEXTS = ["今日は会議です。\nよろしくお願いします", "車", "𠮟られた😀 MTG", "a" * 300]


@pytest.fixture(scope="module")
def classifier_dir(tiny_gemma2_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("classifier")
    torch.manual_seed(0)
    model = AutoModelForSequenceClassification.from_pretrained(
        tiny_gemma2_dir, num_labels=3, id2label={0: "車/軽", 1: "a?b#c", 2: "😀"}, attn_implementation="eager"
    )
    model.save_pretrained(path)
    AutoTokenizer.from_pretrained(tiny_gemma2_dir).save_pretrained(path)
    return path


def plain_run(path: Path, ids: list[int], attention: str = "eager"):
    """Run one unpadded document through the plain model; returns logits, raw output of every block, hidden state."""
    model = AutoModelForSequenceClassification.from_pretrained(path, attn_implementation=attention).eval()
    model.config.pad_token_id = 0
    raw: list[torch.Tensor] = []
    for block in model.model.layers:
        inner = block.forward

        def forward(*args, _inner=inner, **kwargs):
            out = _inner(*args, **kwargs)
            raw.append(out if isinstance(out, torch.Tensor) else out[0])
            return out

        block.forward = forward
    with torch.no_grad():
        hidden = model.model(input_ids=torch.tensor([ids])).last_hidden_state[0]
        collected = [residual[0] for residual in raw]
        logits = model(input_ids=torch.tensor([ids])).logits[0]
    return logits, collected, hidden


def test_residuals_logits_and_embeddings_equal_those_of_the_plain_model(classifier_dir: Path):
    classifier = load_classifier(classifier_dir, max_length=64, device="cpu")
    documents = classifier.tokenize(TEXTS)
    batch = classifier.batch(documents)
    residuals: dict[int, torch.Tensor] = {}
    output = classifier.run(batch, residuals.__setitem__)
    assert sorted(residuals) == list(range(classifier.layers))
    for row, document in enumerate(documents):
        logits, collected, hidden = plain_run(classifier_dir, document.input_ids)
        torch.testing.assert_close(output.logits[row], logits, atol=1e-5, rtol=1e-5)
        start, end = batch.offsets[row], batch.offsets[row + 1]
        keep = torch.tensor(document.positions)
        for layer, residual in residuals.items():
            torch.testing.assert_close(residual[start:end], collected[layer][keep], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(output.embeddings[row], hidden[keep].mean(0), atol=1e-5, rtol=1e-5)
    # The last layer's residual is before the final norm: not what output_hidden_states calls its last entry.
    assert not torch.allclose(residuals[classifier.layers - 1][batch.offsets[1] - 1], hidden[-1])


def test_special_tokens_and_padding_are_not_positions(classifier_dir: Path):
    classifier = load_classifier(classifier_dir, max_length=64, device="cpu")
    documents = classifier.tokenize(TEXTS)
    batch = classifier.batch(documents)
    ids = batch.input_ids.reshape(-1)[batch.positions]
    assert classifier.tokenizer.bos_token_id not in ids
    assert classifier.tokenizer.pad_token_id not in ids
    assert len(ids) == sum(len(document.input_ids) - 1 for document in documents)
    assert [document.truncated for document in documents] == [False, False, False, True]
    assert len(documents[3].input_ids) == 64


def test_text_that_spells_special_tokens_is_ordinary_text(classifier_dir: Path):
    classifier = load_classifier(classifier_dir, max_length=64, device="cpu")
    document = classifier.tokenize(["<pad><eos>こんにちは<bos>"])[0]
    assert document.input_ids.count(classifier.tokenizer.bos_token_id) == 1
    assert classifier.tokenizer.pad_token_id not in document.input_ids
    assert classifier.tokenizer.eos_token_id not in document.input_ids


def test_spans_are_the_characters_of_each_token(classifier_dir: Path):
    classifier = load_classifier(classifier_dir, max_length=64, device="cpu")
    text = TEXTS[2]
    document = classifier.tokenize([text])[0]
    covered = {i for position in document.positions for i in range(*document.spans[position])}
    assert covered == set(range(len(text)))
    # 𠮟 is in no vocabulary: its four bytes are four tokens, and the span of each is the whole character.
    characters = [text[slice(*document.spans[position])] for position in document.positions]
    assert characters.count("𠮟") == 4


SMALL = {"hidden_size": 16, "intermediate_size": 32, "num_attention_heads": 2, "vocab_size": 512}


@pytest.mark.parametrize(
    ("config", "blocks"),
    [
        (LlamaConfig(num_hidden_layers=2, **SMALL), 2),
        (Qwen2Config(num_hidden_layers=3, num_key_value_heads=2, **SMALL), 3),
        (BertConfig(num_hidden_layers=4, **SMALL), 4),
    ],
    ids=["llama", "qwen2", "bert"],
)
def test_llama_qwen_and_bert_report_all_blocks(config, blocks: int, tiny_gemma2_dir: Path, tmp_path: Path):
    config.pad_token_id = 0
    AutoModelForSequenceClassification.from_config(config).save_pretrained(tmp_path)
    if isinstance(config, Qwen2Config):
        save_qwen2_tokenizer(tmp_path)
    else:
        AutoTokenizer.from_pretrained(tiny_gemma2_dir).save_pretrained(tmp_path)
    classifier = load_classifier(tmp_path, max_length=32, device="cpu")
    widths: list[int] = []
    batch = classifier.batch(classifier.tokenize(TEXTS[:2]))
    output = classifier.run(batch, lambda layer, residual: widths.append(residual.shape[1]))
    assert widths == [16] * blocks
    assert output.logits.shape == (2, 2)


def test_an_incomplete_directory_is_refused(classifier_dir: Path, tmp_path: Path):
    with pytest.raises(ModelError, match="no model"):
        load_classifier(tmp_path)
    (tmp_path / "config.json").write_bytes((classifier_dir / "config.json").read_bytes())
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80")
    with pytest.raises(ModelError, match="safetensors"):
        load_classifier(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"not weights")
    with pytest.raises(ModelError, match="no tokenizer"):
        load_classifier(tmp_path)
    (tmp_path / "tokenizer.json").write_bytes((classifier_dir / "tokenizer.json").read_bytes())
    with pytest.raises(ModelError, match="are damaged"):
        load_classifier(tmp_path)
