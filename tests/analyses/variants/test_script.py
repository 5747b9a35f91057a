"""Concepts in a script that a tokenizer does not know are refused: bytes, unknown characters, byte fallback."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tokenizers import Tokenizer, decoders, pre_tokenizers, trainers
from tokenizers import models as tokenizer_models
from transformers import PreTrainedTokenizerFast

from tegakari.analyses.engine.run_models import RunModels
from tegakari.analyses.variants.concepts import check_script, read_concepts
from tegakari.schemas.errors import ConfigError
from tegakari.schemas.variants import Concept, WrittenForm

ENGLISH = ["the meeting is long", "an appointment at noon", "a get-together of friends"] * 5


def concept(*forms: str) -> Concept:
    return Concept(concept=forms[0], forms=[WrittenForm(form=form, sentence=form) for form in forms])


def byte_level() -> PreTrainedTokenizerFast:
    """As of GPT-2 or SmolLM2: what it has not learned is bytes."""
    tokenizer = Tokenizer(tokenizer_models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)  # type: ignore[assignment]
    tokenizer.decoder = decoders.ByteLevel()  # type: ignore[assignment]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(ENGLISH, trainers.BpeTrainer(initial_alphabet=alphabet, show_progress=False))
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer)


def word_piece() -> PreTrainedTokenizerFast:
    """As of BERT: what it has not learned is the unknown token."""
    tokenizer = Tokenizer(tokenizer_models.WordPiece(unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()  # type: ignore[assignment]
    trainer = trainers.WordPieceTrainer(special_tokens=["[UNK]"], show_progress=False)
    tokenizer.train_from_iterator([*ENGLISH, "会"], trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="[UNK]")


@pytest.mark.parametrize("tokenizer", [byte_level(), word_piece()])
def test_an_english_tokenizer_knows_english_forms_only(models: RunModels, tokenizer: PreTrainedTokenizerFast):
    classifier = replace(models.classifier, tokenizer=tokenizer)
    check_script(classifier, [concept("meeting", "appointment", "get-together")])
    with pytest.raises(ConfigError, match="does not know the script"):
        check_script(classifier, [concept("会議", "ミーティング", "打ち合わせ")])
    some = [concept("meeting", "the noon"), concept("議事", "打合")]  # 14 characters and a space; 4 that are not known
    with pytest.raises(ConfigError, match="of 18 characters of their forms, 14 "):
        check_script(classifier, some)


def test_byte_fallback_is_not_knowledge(models: RunModels):
    """The tokenizer of the small runs has learned ten texts in Japanese, and reads other characters as bytes."""
    check_script(models.classifier, [concept("会議", "打ち合わせ"), concept("MTG", "楽しい")])
    with pytest.raises(ConfigError, match="does not know the script") as error:
        check_script(models.classifier, read_concepts())
    assert error.value.field == "--concepts"
