"""Japanese BERT: the tokens of transformers' tokenizer in Python, and the characters of each in the text."""

from __future__ import annotations

import re
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import BertConfig, BertJapaneseTokenizer

from tegakari.models.loading import load_classifier
from tegakari.models.tokens import tokenize
from tegakari.schemas.errors import ModelError
from tests.support.model_directories import save_classifier

VOCABULARY = [
    *("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"),
    *"今日はとても楽しいでした会議軽トラ打ち合わせがバスabcMTG23年。、!?[]",
    *(f"##{character}" for character in "日ても楽しいでした議トラ打ち合わせがスbcTG23年"),
    *("今日", "会議", "です", "##した", "SEP"),
]

ALPHABET = "今日はとても会議軽トラｶﾞﾊﾞスがか\u3099abＭＴＧ①㌔ 　\n[]SEP年2３😀𠮟。"


class ScriptRuns:
    """Words that are runs of characters of one script, in place of those of a dictionary, which is not installed."""

    normalize_text = True

    def __init__(self, do_lower_case: bool) -> None:
        self.do_lower_case = do_lower_case

    def tokenize(self, text: str, never_split: object = None) -> list[str]:
        text = unicodedata.normalize("NFKC", text)
        words = re.findall(r"[ぁ-ゖ]+|[ァ-ヺー]+|[一-鿿]+|\w+?|\S", text)
        return [word.lower() if self.do_lower_case else word for word in words]


def make_tokenizer(directory: Path, pieces: str, lower: bool = False) -> BertJapaneseTokenizer:
    (directory / "vocab.txt").write_text("\n".join(dict.fromkeys(VOCABULARY)), encoding="utf-8")
    tokenizer = BertJapaneseTokenizer(
        str(directory / "vocab.txt"), word_tokenizer_type="basic", subword_tokenizer_type=pieces
    )
    tokenizer.word_tokenizer = ScriptRuns(lower)
    return tokenizer


@pytest.fixture(scope="module", params=[("wordpiece", False), ("wordpiece", True), ("character", False)])
def tokenizer(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> BertJapaneseTokenizer:
    return make_tokenizer(tmp_path_factory.mktemp("tokenizer"), *request.param)


@given(text=st.text(ALPHABET, max_size=30))
def test_tokens_are_those_of_transformers(text: str, tokenizer: BertJapaneseTokenizer):
    expected = tokenizer(text, truncation=True, max_length=12, split_special_tokens=True)["input_ids"]
    (document,) = tokenize(tokenizer, [text], 12)
    assert document.input_ids == expected
    assert document.special == [True, *[False] * (len(expected) - 2), True]


def test_characters_of_tokens(tmp_path: Path):
    tokenizer = make_tokenizer(tmp_path, "wordpiece")
    text = "ＭＴＧ　会議です \ufe0eバスか\u3099"
    (document,) = tokenize(tokenizer, [text], 32)
    spans = [text[start:end] for start, end in document.spans]
    tokens = tokenizer.convert_ids_to_tokens(document.input_ids)
    pairs = dict(zip(tokens, spans, strict=True))
    assert (pairs["会議"], pairs["です"], pairs["バ"], pairs["##ス"]) == ("会議", "です", "バ", "ス")
    assert pairs["M"] == "Ｍ"


def test_a_spelled_special_token_is_read_as_its_characters(tokenizer: BertJapaneseTokenizer):
    (document,) = tokenize(tokenizer, ["今日[SEP][PAD]"], 32)
    special = {tokenizer.sep_token_id, tokenizer.pad_token_id}
    assert not special.intersection(document.input_ids[1:-1])


def test_pieces_that_cannot_be_followed_are_refused(tmp_path: Path):
    tokenizer = make_tokenizer(tmp_path, "wordpiece")
    tokenizer.do_subword_tokenize = False
    with pytest.raises(ModelError, match="pieces words"):
        tokenize(tokenizer, ["今日"], 32)


def test_a_classifier_with_words_of_mecab(tmp_path: Path):
    pytest.importorskip("fugashi")
    pytest.importorskip("unidic_lite")
    save_classifier(tmp_path, BertConfig)
    for file in tmp_path.glob("tokenizer*"):
        file.unlink()
    (tmp_path / "vocab.txt").write_text("\n".join(dict.fromkeys(VOCABULARY)), encoding="utf-8")
    BertJapaneseTokenizer(
        str(tmp_path / "vocab.txt"), word_tokenizer_type="mecab", mecab_kwargs={"mecab_dic": "unidic_lite"}
    ).save_pretrained(tmp_path)
    classifier = load_classifier(tmp_path, max_length=32, device="cpu")
    (document,) = classifier.tokenize(["今日は会議です。"])
    assert classifier.run(classifier.batch([document])).logits.isfinite().all()
    assert [document.spans[position] for position in document.positions[:-1]][:2] == [(0, 2), (2, 3)]
