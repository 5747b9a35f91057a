"""The demo's tokenizer: Gemma's structure, and the character range of every token."""

from __future__ import annotations

import json
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer, Gemma2Config, PreTrainedTokenizerFast

from tegakari.demo.communities import PLANTED
from tegakari.demo.languages import unlabelled_posts
from tegakari.demo.tokenizer import BYTE_TOKENS, MIN_VOCABULARY, SPECIAL_TOKENS, train_tokenizer
from tegakari.models.tokens import tokenize

TEXTS = [
    "今日は車検に行きました。\nスマホで予約！ EV の試乗もね 😊",
    "鑑定士の龗さんと𠮷野家へ👨‍👩‍👧🏽 か\u3099ー  2つの  空白",
    " Tokyo is 大きい。12,000円\t\r\n\n完",
    "",
    " ",
    "<eos>と<0x41>と<pad>",
    "\x00مجتمع\ud7ff",
]
ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="▁"), max_size=60)


def encode(tokenizer: PreTrainedTokenizerFast, text: str) -> tuple[list[str], list[tuple[int, int]]]:
    """Tokens and character ranges, BOS left out."""
    document = tokenize(tokenizer, [text], 10_000)[0]
    assert document.special == [True] + [False] * (len(document.input_ids) - 1)
    return [str(tokenizer.convert_ids_to_tokens(token)) for token in document.input_ids[1:]], document.spans[1:]


def test_reserved_tokens_have_the_ids_of_gemma(tokenizer):
    config = Gemma2Config()
    ids = {token: tokenizer.convert_tokens_to_ids(token) for token in SPECIAL_TOKENS}
    assert ids == {"<pad>": 0, "<eos>": 1, "<bos>": 2, "<unk>": 3}
    assert (config.pad_token_id, config.eos_token_id, config.bos_token_id) == (0, 1, 2)
    assert set(tokenizer.all_special_ids) == {0, 1, 2, 3}
    assert len({tokenizer.convert_tokens_to_ids(token) for token in BYTE_TOKENS} - {3}) == 256
    assert len(tokenizer) == 2400


def test_batches_begin_with_bos_and_are_padded_on_the_right(tokenizer):
    batch = tokenizer(["車検", "車検と洗車の話"], padding=True)
    short, long = batch["input_ids"]
    assert short[0] == long[0] == 2
    assert short.count(2) == long.count(2) == 1
    assert short[-1] == 0
    assert batch["attention_mask"][0] == [int(token != 0) for token in short]


def check_ranges(tokenizer: PreTrainedTokenizerFast, text: str) -> None:
    tokens, spans = encode(tokenizer, text)
    rebuilt = ""
    for number, (token, (start, end)) in enumerate(zip(tokens, spans, strict=True)):
        if token in BYTE_TOKENS:
            pieces = [other for other, span in zip(tokens, spans, strict=True) if span == (start, end)]
            assert bytes(int(piece[3:5], 16) for piece in pieces).decode() == text[start:end]
            assert end == start + 1
        else:
            assert token == text[start:end].replace(" ", "▁")
        if number == 0 or spans[number - 1] != (start, end):
            rebuilt += text[start:end]
    assert rebuilt == text
    assert tokenizer.decode(tokenizer(text)["input_ids"][1:]) == text


@pytest.mark.parametrize("text", TEXTS[:-2])
def test_ranges_cover_the_text(tokenizer, text):
    check_ranges(tokenizer, text)


@given(ANY_TEXT)
@settings(max_examples=150, deadline=None)
def test_ranges_cover_any_text(tokenizer, text):
    check_ranges(tokenizer, text)


@pytest.mark.parametrize("character", ["龗", "𠮷", "🦑", "\u0301"])
def test_every_byte_of_a_rare_character_maps_to_the_whole_of_it(tokenizer, character):
    tokens, spans = encode(tokenizer, f"車検{character}です")
    spelling = [token for token, span in zip(tokens, spans, strict=True) if span == (2, 3)]
    assert spelling == [f"<0x{byte:02X}>" for byte in character.encode()]


def test_text_that_spells_a_reserved_token_is_text(tokenizer):
    tokens, spans = encode(tokenizer, "<eos>と<0x41>")
    assert "".join(tokens).replace("<0x3C>", "<").replace("<0x3E>", ">").startswith("<eos>と<")
    assert spans[-1] == (11, 12)
    assert "<0x41>" not in tokens


def scripts(token: str) -> set[str]:
    """Scripts of the letters; marks that lengthen a vowel belong to any."""
    names = (
        unicodedata.name(character, "").split()[0] for character in token if unicodedata.category(character) == "Lo"
    )
    return {name for name in names if name in ("CJK", "HIRAGANA", "KATAKANA")}


def test_no_token_crosses_scripts_digits_or_marks(tokenizer):
    for token in tokenizer.get_vocab():
        if token in BYTE_TOKENS or token in SPECIAL_TOKENS:
            continue
        letters = sum(character.isalpha() or character == "▁" for character in token)
        assert len(scripts(token)) <= 1
        assert len(token) == 1 or letters == len(token) or set(token) == {"\n"}, token


def test_most_clues_are_one_token_or_two(tokenizer):
    lengths = [len(tokenizer.tokenize(form)) for planted in PLANTED.values() for form in planted.unique]
    assert sum(length <= 2 for length in lengths) > 0.75 * len(lengths)
    assert len(tokenizer.tokenize("ジオラマ")) == 1


def test_some_posts_have_characters_spelt_in_bytes(tokenizer):
    texts = [text for text in unlabelled_posts(1, 500) if set(tokenizer.tokenize(text)) & set(BYTE_TOKENS)]
    assert 10 < len(texts) < 250


def test_training_is_repeatable():
    texts = unlabelled_posts(0, 300)
    first, second = (train_tokenizer(texts, 1000, alphabet=300) for _ in range(2))
    assert first.backend_tokenizer.to_str() == second.backend_tokenizer.to_str()
    assert MIN_VOCABULARY < len(first) <= 1000


def test_the_saved_tokenizer_loads_beside_a_gemma_2_model(tokenizer, tmp_path):
    """Beside such a model transformers might load its own Gemma tokenizer, which splits differently."""
    tokenizer.save_pretrained(tmp_path)
    Gemma2Config().save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    assert loaded(TEXTS[:5])["input_ids"] == tokenizer(TEXTS[:5])["input_ids"]
    assert (loaded.padding_side, loaded.pad_token_id, loaded.bos_token_id) == ("right", 0, 2)
    assert json.loads(loaded.backend_tokenizer.to_str()) == json.loads(tokenizer.backend_tokenizer.to_str())
