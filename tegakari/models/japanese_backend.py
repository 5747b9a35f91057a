"""The tokenizer of Japanese BERT, which transformers has in Python alone, with the characters of its tokens."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tokenizers import (
    NormalizedString,
    PreTokenizedString,
    Tokenizer,
    models,
    normalizers,
    pre_tokenizers,
    processors,
)
from transformers import BertJapaneseTokenizer

from tegakari.schemas.errors import ModelError

_SAMPLES = (
    "今日は、とても楽しい一日でした。",
    "ＭＴＧの打ち合わせ　です！ ﾃｽﾄ ﾊﾞｽ",
    "𠮟られた😀 Hello, World 2023年\n軽トラ",
    "①㌔㍻ か\u3099 [CLS] </s> ...",
)
"""Texts on whose tokens both must agree: widths, half-width and decomposed kana, rare characters, symbols."""


class _Words:
    """Splits a normalised text at the words of a tokenizer of Japanese; `tokenizers` calls `pre_tokenize`."""

    def __init__(self, words: Any, lowercase: bool, characters: bool) -> None:
        self._words, self._lowercase, self._characters = words, lowercase, characters

    def pre_tokenize(self, text: PreTokenizedString) -> None:
        text.split(self._split)

    def _split(self, _number: int, text: NormalizedString) -> list[NormalizedString]:
        content, parts, place = str(text), [], 0
        for word in self._words.tokenize(content):
            # Words are lower-cased after they are found; the text is not.
            start = content.find(word, place) if not self._lowercase else content.lower().find(word, place)
            if start < 0:
                raise ValueError(f"{word!r} is not in the text behind character {place}")
            place = start + len(word)
            steps = range(start, place) if self._characters else [start]
            parts += [text[step : step + 1 if self._characters else place] for step in steps]
        if self._lowercase:
            for part in parts:
                part.lowercase()
        return parts


def japanese_backend(tokenizer: BertJapaneseTokenizer, rename: Callable[[str], str]) -> Tokenizer:
    """A backend that gives the tokens of a tokenizer of Japanese BERT, with their characters in the text.

    Words come from the tokenizer's own MeCab, Sudachi or Juman++; the library `tokenizers` normalises (NFKC), splits
    words into pieces and follows characters through both.

    Args:
        tokenizer: of transformers.
        rename: gives special tokens names that no text spells, and other tokens their own.

    Raises:
        ModelError: pieces other than WordPiece or characters; or the two do not agree on a sample.
    """
    words = getattr(tokenizer, "word_tokenizer", None)
    kind = tokenizer.subword_tokenizer_type if tokenizer.do_subword_tokenize else "words"
    if words is None or kind not in ("wordpiece", "character") or not getattr(words, "normalize_text", False):
        raise _unaligned(tokenizer, f"words {tokenizer.word_tokenizer_type}, pieces {kind}")
    vocabulary = {rename(token): number for token, number in tokenizer.get_vocab().items()}
    unknown = rename(str(tokenizer.unk_token))
    if kind == "wordpiece":
        backend = Tokenizer(models.WordPiece(vocabulary, unk_token=unknown, max_input_chars_per_word=100))
    else:
        backend = Tokenizer(models.WordLevel(vocabulary, unk_token=unknown))
    splitter = _Words(words, bool(words.do_lower_case), kind == "character")
    backend.normalizer = normalizers.NFKC()  # type: ignore[assignment]
    backend.pre_tokenizer = pre_tokenizers.PreTokenizer.custom(splitter)  # type: ignore[assignment]
    begin, end = (str(tokenizer.cls_token), tokenizer.cls_token_id), (str(tokenizer.sep_token), tokenizer.sep_token_id)
    backend.post_processor = processors.BertProcessing(end, begin)  # type: ignore[assignment]
    for sample in _SAMPLES:
        if backend.encode(sample).ids != tokenizer(sample, split_special_tokens=True)["input_ids"]:
            raise _unaligned(tokenizer, f"the text {sample!r}")
    return backend


def _unaligned(tokenizer: BertJapaneseTokenizer, reason: str) -> ModelError:
    return ModelError(
        f"the characters of tokens are not known for this {type(tokenizer).__name__}: {reason}",
        field="classifier.path",
        fix="use a tokenizer of MeCab, Sudachi or Juman++ with WordPiece or characters, or save a tokenizer.json",
    )
