"""The tokenizer of text alone: a text that spells a special token is read as its characters."""

from __future__ import annotations

import json
from typing import Any
from weakref import WeakKeyDictionary

from tokenizers import Tokenizer
from transformers import BertJapaneseTokenizer, PreTrainedTokenizerBase

from tegakari.models.japanese_backend import japanese_backend
from tegakari.schemas.errors import ModelError

_UNSPELLABLE = "\uffff"
"""A noncharacter of Unicode, which no text contains, put before the names of special tokens."""

_CONTEXTS = ("{0}", "a{0}b", "a {0} b")
"""Texts that spell a special token: alone, in a word, and as a word."""

_backends: WeakKeyDictionary[PreTrainedTokenizerBase, Tokenizer] = WeakKeyDictionary()


def text_backend(tokenizer: PreTrainedTokenizerBase) -> Tokenizer:
    """Backend of a tokenizer that gives no special token for a text which spells it.

    `encode_special_tokens` keeps special tokens from being split off, but models whose vocabulary contains them as
    pieces find them again: Unigram (SentencePiece) does in every text, models of whole words do between spaces, and so
    do tokens that only the configuration calls special. Then special tokens are renamed in a copy of the backend, with
    their ids; otherwise it is the tokenizer's own.

    Args:
        tokenizer: a fast one, or one of Japanese BERT.

    Raises:
        ModelError: the tokenizer is neither, and gives no characters of tokens; or a text gives a special token all the
            same.
    """
    if tokenizer not in _backends:
        _backends[tokenizer] = _make_backend(tokenizer)
    return _backends[tokenizer]


def _make_backend(tokenizer: PreTrainedTokenizerBase) -> Tokenizer:
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if isinstance(tokenizer, BertJapaneseTokenizer):
        special = _special_tokens(tokenizer)
        backend = japanese_backend(tokenizer, lambda token: _name(token, special))
    elif backend is None:
        raise ModelError(
            f"{type(tokenizer).__name__} is not a fast tokenizer and gives no character ranges of tokens",
            field="classifier.base",
            fix="save a tokenizer.json beside the model",
        )
    elif spelled_special_token(tokenizer, backend) is not None:
        backend = _renamed(tokenizer, backend)
    if (token := spelled_special_token(tokenizer, backend)) is not None:
        raise ModelError(
            f"a text that spells {token!r} gives that special token",
            field="classifier.path",
            fix="take the token from the list of special tokens of the tokenizer",
        )
    return backend


def configure(backend: Tokenizer, max_length: int | None) -> None:
    """Set a backend to cut texts at `max_length` tokens (None: nowhere), without padding.

    Nothing is set that is so already: a backend that encodes in another thread refuses to be changed.
    """
    if not backend.encode_special_tokens:
        backend.encode_special_tokens = True
    if backend.padding is not None:
        backend.no_padding()
    truncation = backend.truncation
    if max_length is None:
        if truncation is not None:
            backend.no_truncation()
    elif truncation is None or (truncation["max_length"], truncation["direction"], truncation["stride"]) != (
        max_length,
        "right",
        0,
    ):
        backend.enable_truncation(max_length)


def spelled_special_token(tokenizer: PreTrainedTokenizerBase, backend: Tokenizer) -> str | None:
    """The first special token that a text gives which spells it; None: there is none.

    The token of unknown characters is one of them, where the characters of its name are known.
    """
    configure(backend, None)
    special = set(tokenizer.all_special_ids)
    unknown = next(iter(special.intersection([tokenizer.unk_token_id])), None)
    for token in map(str, tokenizer.all_special_tokens):
        for context in _CONTEXTS:
            found = special.intersection(_ids(backend, context.format(token)))
            if found - {unknown}:
                return token
            if found and token == tokenizer.unk_token and unknown not in _ids(backend, " ".join(context.format(token))):
                return token
    return None


def _ids(backend: Tokenizer, text: str) -> list[int]:
    return backend.encode(text, add_special_tokens=False).ids


def _renamed(tokenizer: PreTrainedTokenizerBase, backend: Tokenizer) -> Tokenizer:
    """A copy of a backend whose special tokens keep their ids and have names that no text spells."""
    content = json.loads(backend.to_str())
    special = _special_tokens(tokenizer)
    for added in content["added_tokens"]:
        if added["content"] in special:
            added["content"] = _UNSPELLABLE + added["content"]
    model: dict[str, Any] = content["model"]
    if isinstance(model["vocab"], dict):
        model["vocab"] = {_name(token, special): number for token, number in model["vocab"].items()}
    else:
        model["vocab"] = [[_name(piece, special), score] for piece, score in model["vocab"]]
    if model.get("unk_token") in special:
        model["unk_token"] = _name(model["unk_token"], special)
    if "merges" in model:
        model["merges"] = [merge for merge in model["merges"] if not _gives(merge, special)]
    return Tokenizer.from_str(json.dumps(content))


def _special_tokens(tokenizer: PreTrainedTokenizerBase) -> set[str]:
    return set(map(str, tokenizer.all_special_tokens))


def _name(token: str, special: set[str]) -> str:
    return _UNSPELLABLE + token if token in special else token


def _gives(merge: str | list[str], special: set[str]) -> bool:
    """Whether a merge makes a special token, or goes on from one."""
    first, second = merge.split(" ", 1) if isinstance(merge, str) else merge
    return first + second in special or first in special or second in special
