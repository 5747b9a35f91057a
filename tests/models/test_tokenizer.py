"""A tokenizer is loaded from every kind of files that transformers reads, and tried before it is believed."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path

import pytest
from transformers import (
    AutoTokenizer,
    BertConfig,
    GPT2Config,
    LlamaConfig,
    PreTrainedConfig,
    Qwen2Config,
    RobertaConfig,
)

from tegakari.models.tokenizer import load_tokenizer
from tegakari.models.tokens import tokenize
from tegakari.schemas.errors import ModelError
from tests.support.model_directories import change_json
from tests.support.tokenizer_kinds import KINDS, save_tokenizer

TEXT = "the quick 今日は 2023"


def refusal(directory: Path) -> ModelError:
    with pytest.raises(ModelError) as caught:
        load_tokenizer(directory, "classifier.base")
    assert caught.value.field == "classifier.base"
    assert caught.value.fix
    return caught.value


def save_vocabulary_and_merges(directory: Path) -> None:
    """Write vocab.json and merges.txt, the files of GPT-2 and RoBERTa before there was a tokenizer.json."""
    model = json.loads(KINDS["byte-level"]().to_str())["model"]
    (directory / "vocab.json").write_text(json.dumps(model["vocab"]))
    (directory / "merges.txt").write_text("#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in model["merges"]))


@pytest.mark.parametrize("family", [GPT2Config, RobertaConfig])
def test_vocabulary_and_merges(family: type[PreTrainedConfig], tmp_path: Path):
    family().save_pretrained(tmp_path)
    save_vocabulary_and_merges(tmp_path)
    (document,) = tokenize(load_tokenizer(tmp_path), [TEXT], 64)
    ids = [number for number, special in zip(document.input_ids, document.special, strict=True) if not special]
    assert ids == KINDS["byte-level"]().encode(TEXT, add_special_tokens=False).ids


def test_a_vocabulary_of_words(tmp_path: Path):
    BertConfig().save_pretrained(tmp_path)
    (tmp_path / "vocab.txt").write_text(
        "\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "quick", "##s"])
    )
    (document,) = tokenize(load_tokenizer(tmp_path), ["The quicks [SEP]"], 64)
    assert document.input_ids == [2, 5, 6, 7, 1, 1, 1, 3]


@pytest.mark.skipif(find_spec("sentencepiece") is not None, reason="sentencepiece is installed")
@pytest.mark.parametrize("name", ["spiece.model", "sentencepiece.bpe.model", "tokenizer.model", "spm.model"])
def test_a_sentencepiece_model_alone_names_its_library(name: str, tmp_path: Path):
    LlamaConfig().save_pretrained(tmp_path)
    (tmp_path / name).write_bytes(b"\n\x0e\n\x05<unk>\x15\0\0\0\0\x18\x02")
    error = refusal(tmp_path)
    assert name in error.message
    assert "install sentencepiece" in (error.fix or "")


@pytest.mark.parametrize(
    ("words", "module", "packages"),
    [
        ("mecab", "fugashi", "install fugashi unidic-lite"),
        ("sudachi", "sudachipy", "install sudachipy sudachidict-core"),
        ("jumanpp", "rhoknp", "install rhoknp"),
    ],
)
def test_japanese_bert_names_the_package_of_its_words(words: str, module: str, packages: str, tmp_path: Path):
    if find_spec(module) is not None:
        pytest.skip(f"{module} is installed")
    BertConfig().save_pretrained(tmp_path)
    (tmp_path / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "今日", "は"]))
    (tmp_path / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "BertJapaneseTokenizer", "word_tokenizer_type": words})
    )
    error = refusal(tmp_path)
    assert "needs a package that is not installed" in error.message
    assert packages in (error.fix or "")


def test_a_tokenizer_of_another_class_that_knows_nothing(tiny_tokenizer: Path, tmp_path: Path):
    """In a Qwen 2 directory transformers reads every tokenizer.json as Qwen's, in bytes that this one does not have."""
    Qwen2Config().save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(tiny_tokenizer).save_pretrained(tmp_path)
    error = refusal(tmp_path)
    assert "(Qwen2Tokenizer) reads every text as unknown characters or as nothing" in error.message


def test_a_vocabulary_of_special_tokens_alone(tmp_path: Path):
    BertConfig().save_pretrained(tmp_path)
    (tmp_path / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]))
    assert "reads every text as unknown characters" in refusal(tmp_path).message


def test_a_class_that_reads_otherwise_than_its_file(tmp_path: Path):
    GPT2Config().save_pretrained(tmp_path)
    model = KINDS["byte-level"]()
    save_tokenizer("byte-level", tmp_path)
    content = json.loads(model.to_str())["model"]
    merges = [*content["merges"], ["6", "5"], ["65", "0"]]
    vocabulary = {**content["vocab"], "65": len(content["vocab"]), "650": len(content["vocab"]) + 1}
    change_json(tmp_path / "tokenizer.json", model={**content, "vocab": vocabulary, "merges": merges})
    change_json(tmp_path / "tokenizer_config.json", tokenizer_class="GPT2Tokenizer")
    load_tokenizer(tmp_path)  # both split 650 off alike
    single = {"type": "Split", "pattern": {"Regex": r"\p{N}"}, "behavior": "Isolated", "invert": False}
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    change_json(tmp_path / "tokenizer.json", pre_tokenizer={"type": "Sequence", "pretokenizers": [single, level]})
    error = refusal(tmp_path)
    assert "GPT2Tokenizer reads a text as" in error.message
    assert "tokenizer.json says" in error.message
    change_json(tmp_path / "tokenizer_config.json", tokenizer_class="TokenizersBackend")  # the fix it names
    assert load_tokenizer(tmp_path).tokenize("650") == ["6", "5", "0"]


def test_options_of_a_class_are_not_taken_for_another_tokenizer(tmp_path: Path):
    """A class that puts a space in front, or lower-cases, is what the model was fine-tuned with."""
    GPT2Config().save_pretrained(tmp_path)
    save_tokenizer("byte-level", tmp_path)
    change_json(tmp_path / "tokenizer_config.json", tokenizer_class="GPT2Tokenizer", add_prefix_space=True)
    load_tokenizer(tmp_path)


@pytest.mark.parametrize("content", ["{", '{"model": {"type": "Newer", "vocab": {}}, "version": "2.0"}'])
def test_a_tokenizer_json_that_the_library_cannot_read(content: str, tmp_path: Path):
    LlamaConfig().save_pretrained(tmp_path)
    (tmp_path / "tokenizer.json").write_text(content)
    error = refusal(tmp_path)
    assert "has no usable tokenizer" in error.message
    assert "version of tokenizers" in (error.fix or "")


def test_a_tokenizer_written_in_python_gives_no_characters(tmp_path: Path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "canine"}))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "CanineTokenizer"}))
    assert "CanineTokenizer is not a fast tokenizer" in refusal(tmp_path).message
