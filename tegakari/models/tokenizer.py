"""The tokenizer of a model directory, loaded and tried on a few texts before it is believed."""

from __future__ import annotations

import json
import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tokenizers import Encoding, Tokenizer
from transformers import AutoTokenizer, PreTrainedTokenizerBase, TokenizersBackend

from tegakari.models.quiet import silent_transformers
from tegakari.models.text_backend import configure, text_backend
from tegakari.schemas.errors import ModelError

_LANGUAGES = ("the quick brown fox", "1 2 3 4 5 6 7 8", "今日は、ありがとう", "это тест", "这是一个测试", "안녕하세요")
"""Texts of which a tokenizer of any of these languages knows a character."""

_ORDINARY = "x ab cd 650841823 don't stop, ok: ab\ncd (2023) ひら カナ"
"""A text that every option of a tokenizer leaves alone: no capitals, accents, voiced kana or Chinese characters, and
its first word, which may get a space in front, is not compared."""

_PACKAGES = {
    "fugashi": "fugashi unidic-lite",
    "unidic_lite": "unidic-lite",
    "ipadic": "ipadic",
    "unidic": "unidic",
    "sudachi": "sudachipy sudachidict-core",
    "rhoknp": "rhoknp",
    "sacremoses": "sacremoses",
    "pythainlp": "pythainlp",
    "jieba": "rjieba",
    "mistral": "mistral-common",
    "sentencepiece": "sentencepiece",
    "tiktoken": "tiktoken",
    "protobuf": "protobuf",
}
"""Packages that install what a tokenizer asks for, by a word of its complaint."""


def load_tokenizer(directory: Path, field: str = "classifier.path") -> PreTrainedTokenizerBase:
    """Load a tokenizer that pads on the right.

    Args:
        directory: of the model.
        field: the configuration key that named it.

    Raises:
        ModelError: it cannot be read, lacks a package, is not a fast one, knows no character of any language, reads a
            text otherwise than its tokenizer.json says, or gives special tokens for text.
    """
    _check_sentencepiece(directory, field)
    try:
        with silent_transformers():
            tokenizer = AutoTokenizer.from_pretrained(directory, trust_remote_code=False)
    except Exception as error:  # noqa: BLE001 - tokenizers raises Exception itself
        raise _unusable(directory, error, field) from None
    tokenizer.padding_side = "right"
    backend = text_backend(tokenizer)
    _check_known(tokenizer, backend, directory, field)
    _check_file(tokenizer, directory, field)
    return tokenizer


def _check_sentencepiece(directory: Path, field: str) -> None:
    """Refuse a SentencePiece model alone where its library is missing: transformers then asks for tiktoken."""
    models = sorted(directory.glob("*.model"))
    if models and not (directory / "tokenizer.json").is_file() and find_spec("sentencepiece") is None:
        raise ModelError(
            f"the tokenizer of {directory} is a SentencePiece model alone ({models[0].name})",
            field=field,
            fix="install sentencepiece where tegakari runs, or save a tokenizer.json beside the model",
        )


def _unusable(directory: Path, error: Exception, field: str) -> ModelError:
    reason = " ".join(str(error).split())
    for word, packages in _PACKAGES.items():
        if isinstance(error, ImportError | ValueError) and re.search(
            rf"install\W.*{word}|{word}.*\Winstall", reason, re.I
        ):
            return ModelError(
                f"the tokenizer of {directory} needs a package that is not installed: "
                + reason.partition(". See ")[0][:200],
                field=field,
                fix=f"install {packages} where tegakari runs",
            )
    if "untagged enum" in reason:
        reason += "; a newer version of the tokenizers library wrote it"
    return ModelError(
        f"{directory} has no usable tokenizer: {reason[:300]}",
        field=field,
        fix="save its tokenizer.json beside the model, with the version of tokenizers that is installed here",
    )


def _check_known(tokenizer: PreTrainedTokenizerBase, backend: Tokenizer, directory: Path, field: str) -> None:
    unknown = tokenizer.unk_token_id
    configure(backend, None)
    for text in _LANGUAGES:
        if any(number != unknown for number in backend.encode(text, add_special_tokens=False).ids):
            return
    raise ModelError(
        f"the tokenizer of {directory} ({type(tokenizer).__name__}) reads every text as unknown characters or as "
        "nothing",
        field=field,
        fix="give the model with its own tokenizer: vocabulary and merges in the form that this class reads",
    )


def _check_file(tokenizer: PreTrainedTokenizerBase, directory: Path, field: str) -> None:
    """Compare the tokenizer with tokenizer.json, of which some classes of transformers take the vocabulary alone.

    A model is fine-tuned with one of the two; which, no file says.
    """
    file, kind = directory / "tokenizer.json", type(tokenizer)
    if not file.is_file() or kind is TokenizersBackend or "__init__" not in vars(kind):
        return  # the file itself was read
    content = json.loads(file.read_text(encoding="utf-8"))
    loaded: Any = tokenizer.backend_tokenizer
    if all(content.get(part) == _state(getattr(loaded, part)) for part in ("normalizer", "pre_tokenizer")):
        return
    stored = Tokenizer.from_file(str(file))
    configure(stored, None)
    configure(loaded, None)
    readings = [_after_first_word(backend.encode(_ORDINARY, add_special_tokens=False)) for backend in (stored, loaded)]
    if readings[0] != readings[1]:
        expected, actual = (_tokens(reading, stored) for reading in readings)
        raise ModelError(
            f"transformers' {kind.__name__} reads a text as {actual}, but {file} says {expected}",
            field=field,
            fix="if the model was fine-tuned with this class, save the tokenizer again with it "
            "(AutoTokenizer.from_pretrained(...).save_pretrained(...)); else set `tokenizer_class` to "
            '"TokenizersBackend" in tokenizer_config.json, which reads tokenizer.json as it is',
        )


def _state(part: object) -> object:
    """A part of a tokenizer as tokenizer.json describes it."""
    return None if part is None else json.loads(part.__getstate__())  # type: ignore[attr-defined]


def _after_first_word(encoding: Encoding) -> list[int]:
    return [number for number, (start, _) in zip(encoding.ids, encoding.offsets, strict=True) if start >= 1]


def _tokens(ids: list[int], backend: Tokenizer) -> list[str | None]:
    return [backend.id_to_token(number) for number in ids[:6]]
