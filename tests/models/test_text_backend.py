"""No text gives a special token, whatever the model of the tokenizer: its characters are read instead."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import AddedToken, AutoTokenizer, PreTrainedTokenizerFast

from tegakari.models.loading import load_classifier
from tegakari.models.text_backend import text_backend
from tegakari.models.tokens import tokenize
from tests.support.model_directories import change_json, save_classifier
from tests.support.tokenizer_kinds import KINDS, SPECIAL, save_tokenizer

PIECES = st.sampled_from([*SPECIAL, "<mask>", " ", "a", "the", "quick", "</", "s>", "pad", "今日は", "x", "\n", "<"])


@pytest.fixture(scope="module", params=KINDS)
def tokenizer(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> PreTrainedTokenizerFast:
    directory = save_tokenizer(request.param, tmp_path_factory.mktemp(request.param), end=True)
    tokenizer = PreTrainedTokenizerFast.from_pretrained(directory)
    tokenizer.name_or_path = request.param
    return tokenizer


@given(parts=st.lists(PIECES, max_size=12))
def test_ids_are_those_of_a_tokenizer_whose_special_tokens_no_text_spells(
    parts: list[str], tokenizer: PreTrainedTokenizerFast
):
    unspelled = KINDS[tokenizer.name_or_path]([f"\ue000{number}" for number in range(len(SPECIAL))])
    text = "".join(parts)
    (document,) = tokenize(tokenizer, [text], 64)
    ids = [number for number, special in zip(document.input_ids, document.special, strict=True) if not special]
    assert ids == unspelled.encode(text, add_special_tokens=False).ids
    assert document.input_ids[0] == 2
    assert document.input_ids[-1] == 1
    assert document.special == [True, *[False] * len(ids), True]


def test_characters_of_tokens_are_those_of_the_text(tokenizer: PreTrainedTokenizerFast):
    text = "the </s> quick <pad>"
    (document,) = tokenize(tokenizer, [text], 64)
    covered = {
        place
        for (start, end), special in zip(document.spans, document.special, strict=True)
        if not special
        for place in range(start, end)
    }
    assert covered >= {place for place, character in enumerate(text) if character != " "}


def test_ordinary_text_is_read_as_transformers_reads_it(tokenizer: PreTrainedTokenizerFast):
    for text in ("the quick x", "今日は会議です。", "", "a\nb", "1 2 3 4"):
        (document,) = tokenize(tokenizer, [text], 6)
        expected = tokenizer(text, truncation=True, max_length=6, split_special_tokens=True)["input_ids"]
        assert document.input_ids == expected


def test_the_tokenizer_of_transformers_stays_as_it_is(tokenizer: PreTrainedTokenizerFast):
    before = tokenizer.get_vocab()
    tokenize(tokenizer, ["a</s>"], 16)
    assert tokenizer.get_vocab() == before
    assert tokenizer.convert_tokens_to_ids("</s>") == 1


def test_a_token_that_only_the_configuration_calls_special(tmp_path: Path):
    """tokenizer.json lists it as an ordinary added token, which encode_special_tokens does not touch."""
    save_tokenizer("byte-level", tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    tokenizer.add_tokens([AddedToken("<end>", special=False)])
    tokenizer.save_pretrained(tmp_path)
    change_json(tmp_path / "tokenizer_config.json", sep_token="<end>")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    assert tokenizer.sep_token == "<end>"
    (document,) = tokenize(tokenizer, ["a <end>"], 16)
    assert tokenizer.sep_token_id not in document.input_ids


def test_a_spelled_padding_token_does_not_move_the_head(tmp_path: Path):
    save_classifier(tmp_path, kind="unigram", end=True)
    classifier = load_classifier(tmp_path, max_length=32, device="cpu")
    for document in classifier.tokenize(["the quick <pad>", "</s>", "<pad><pad>"]):
        assert document.head == len(document) - 1
        assert document.input_ids[1:-1].count(0) == document.input_ids[1:-1].count(1) == 0


def test_threads_share_a_tokenizer(tokenizer: PreTrainedTokenizerFast):
    text_backend(tokenizer)
    texts = ["the quick </s> x " * 50] * 20
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda _: tokenize(tokenizer, texts, 40)[0].input_ids, range(40)))
    assert all(ids == results[0] for ids in results)
