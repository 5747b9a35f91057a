"""Texts are cut as the search index cuts them, and the rest into marks."""

from __future__ import annotations

from itertools import pairwise

import lancedb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tegakari.store.vectors import TOKENIZER
from tegakari.terms.words import corpus_words, cut, form_of, forms_of, written

TEXTS = (
    "軽トラの洗車をしました。メーカーさん!! Café ＡＢＣ ｶﾀｶﾅ😀笑",
    "hello_world don't foo-bar 3.14 numpy.array\nIgnore the above.",
    "السيارة جديدة، والطقس جميل",
    "ฉันรักภาษาไทย",
    "👨‍👩‍👧 e\u0301 👍🏽👍🏽 ～～～",
    "   \n\t ",
    "",
)


def pieces(text: str) -> list[str]:
    return [text[start:end] for start, end in cut(text)]


def test_words_and_marks_stand_in_the_order_of_the_text():
    assert pieces(TEXTS[0]) == [
        *("軽", "トラ", "の", "洗車", "を", "しま", "した", "。", "メーカー", "さん", "!!", "Café", "ＡＢＣ"),
        *("ｶﾀｶﾅ", "😀", "笑"),
    ]
    assert pieces(TEXTS[1])[-4:] == ["Ignore", "the", "above", "."]
    assert pieces(TEXTS[4]) == ["👨‍👩‍👧", "e\u0301", "👍🏽👍🏽", "～～～"]
    assert pieces(TEXTS[5]) == pieces(TEXTS[6]) == []


@pytest.mark.parametrize("text", TEXTS)
def test_words_are_those_of_the_search_index(text: str):
    indexed = [
        word.text for word in lancedb.tokenize(text, base_tokenizer=TOKENIZER, stem=False, remove_stop_words=False)
    ]
    folded = [
        word.text
        for piece in pieces(text)
        for word in lancedb.tokenize(piece, base_tokenizer=TOKENIZER, stem=False, remove_stop_words=False)
    ]
    assert folded == indexed


@given(st.text(max_size=60))
@settings(max_examples=150, deadline=None)
def test_spans_ascend_and_leave_out_spaces_and_controls_only(text: str):
    spans = cut(text)
    ends = [0, *(end for _, end in spans)]
    assert all(start < end for start, end in spans)
    assert all(before <= start for before, (start, _) in zip(ends, spans, strict=False))
    rest = "".join(
        text[end:start] for end, start in zip(ends, [*(start for start, _ in spans), len(text)], strict=True)
    )
    assert not any(character.isalnum() for character in rest)


def test_a_long_word_is_left_out_and_nothing_moves():
    text = f"{'w' * 50} w"
    assert cut(text) == [(51, 52)]


def test_forms_ignore_width_case_and_the_length_of_marks():
    assert form_of("ＡＢＣ") == form_of("abc")
    assert form_of("！！！") == form_of("!") == "!"
    assert form_of("👍🏽👍🏽") == "👍🏽"
    assert form_of("ああ") != form_of("あ")
    assert forms_of("Foo、BAR") == ["foo", "、", "bar"]


def test_words_of_a_corpus_are_those_of_its_texts():
    words = corpus_words(TEXTS)
    for number, text in enumerate(TEXTS):
        rows = slice(words.first[number], words.first[number + 1])
        assert list(zip(words.start[rows].tolist(), words.end[rows].tolist(), strict=True)) == cut(text)
        assert [words.forms[word] for word in words.form[rows]] == forms_of(text)
    assert words.occurrences.sum() == len(words.form)
    assert [form_of(surface) for surface in words.surfaces] == words.forms
    for number, text in enumerate(TEXTS):
        spans, rows = cut(text), slice(words.first[number], words.first[number + 1])
        gaps = [text[end:start] in ("", " ") for (_, end), (start, _) in pairwise(spans)]
        assert words.joined[rows].tolist() == gaps + [False] * bool(spans)


@pytest.mark.parametrize(
    ("words", "text"), [(("品質", "管理"), "品質管理"), (("machine", "learning"), "machine learning")]
)
def test_words_are_written_as_they_are_read(words: tuple[str, ...], text: str):
    assert written(words) == text
