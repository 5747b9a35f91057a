"""Small tokenizers of every model of the tokenizers library, with the same special tokens."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast, Qwen2Tokenizer

SPECIAL = ("<pad>", "</s>", "<s>", "<unk>")
"""Their ids are 0 to 3."""

_TEXTS = (
    "今日は会議です。",
    "笑顔 ありがとう",
    "the quick brown fox",
    "1 2 3 4 5 6 7 8",
    "a b c < / s > pad",
    "x unk [ ]",
)


def _characters() -> list[str]:
    return sorted({character for text in _TEXTS for character in text if character != " "} | {"▁"})


def _unigram(special: Sequence[str] = SPECIAL) -> Tokenizer:
    pieces = [(token, 0.0) for token in special] + [(character, -9.0) for character in _characters()]
    learned = [("▁the", -3.0), ("▁quick", -4.0), ("ありがとう", -4.0), ("会議", -4.0)]
    tokenizer = Tokenizer(models.Unigram([*pieces, *learned], unk_id=3))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()  # type: ignore[assignment]
    tokenizer.decoder = decoders.Metaspace()  # type: ignore[assignment]
    return tokenizer


def _word_piece(special: Sequence[str] = SPECIAL) -> Tokenizer:
    tokens = [*special, *_characters(), *(f"##{character}" for character in _characters()), "the", "quick"]
    vocabulary = {token: number for number, token in enumerate(dict.fromkeys(tokens))}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token=special[3]))
    tokenizer.normalizer = normalizers.BertNormalizer()  # type: ignore[assignment]
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()  # type: ignore[assignment]
    return tokenizer


def _word_level(special: Sequence[str] = SPECIAL) -> Tokenizer:
    words = sorted({word for text in _TEXTS for word in text.split()})
    tokenizer = Tokenizer(
        models.WordLevel({token: number for number, token in enumerate([*special, *words])}, unk_token=special[3])
    )
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()  # type: ignore[assignment]
    return tokenizer


def _byte_level(special: Sequence[str] = SPECIAL) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE(unk_token=None))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)  # type: ignore[assignment]
    tokenizer.decoder = decoders.ByteLevel()  # type: ignore[assignment]
    trainer = trainers.BpeTrainer(
        vocab_size=320,
        show_progress=False,
        special_tokens=list(special),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    tokenizer.train_from_iterator(_TEXTS * 5, trainer)
    return tokenizer


KINDS: dict[str, Callable[..., Tokenizer]] = {
    "unigram": _unigram,
    "word-piece": _word_piece,
    "word-level": _word_level,
    "byte-level": _byte_level,
}
"""A tokenizer by the kind of its model; takes the names of its special tokens."""


def save_tokenizer(kind: str, directory: Path, *, end: bool = False, pad: bool = True) -> Path:
    """Write a fast tokenizer of a kind to a directory.

    Args:
        kind: of `KINDS`.
        directory: may hold a model.
        end: whether every document ends with `</s>`; it begins with `<s>` in any case.
        pad: whether the tokenizer has a padding token.
    """
    tokenizer = KINDS[kind]()
    tokenizer.add_special_tokens(list(SPECIAL))
    tokenizer.post_processor = processors.TemplateProcessing(  # type: ignore[assignment]
        single="<s> $A </s>" if end else "<s> $A", special_tokens=[("<s>", 2), ("</s>", 1)]
    )
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        pad_token="<pad>" if pad else None,
    ).save_pretrained(directory)
    return directory


def save_qwen2_tokenizer(directory: Path) -> Path:
    """Write a tokenizer of the only class that transformers loads in the directory of a Qwen 2 model."""
    model = _byte_level()
    vocabulary = dict(sorted(model.get_vocab().items(), key=lambda item: item[1]))
    Qwen2Tokenizer(vocab=vocabulary, merges=[], unk_token="<unk>", eos_token="</s>", pad_token="<pad>").save_pretrained(
        directory
    )
    return directory
