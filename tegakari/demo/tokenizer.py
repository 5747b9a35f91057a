"""A tokenizer with the structure of Gemma's, trained on the demo's texts.

As in Gemma's: byte-pair encoding with byte fallback, spaces written as "▁", no prefix space, <bos> prepended.
Unlike Gemma's: no token contains two scripts, so that a word that is a clue is one token or two.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence

from tokenizers import Regex, Tokenizer, decoders, normalizers, pre_tokenizers, processors, trainers
from tokenizers.models import BPE
from transformers import PreTrainedTokenizerFast

PAD, EOS, BOS, UNK = SPECIAL_TOKENS = ("<pad>", "<eos>", "<bos>", "<unk>")
"""A token's id is its index here, as in Gemma's vocabulary."""

BYTE_TOKENS = tuple(f"<0x{byte:02X}>" for byte in range(256))
MIN_VOCABULARY = len(SPECIAL_TOKENS) + len(BYTE_TOKENS)

_PIECES = r"\p{Han}+|[\p{Katakana}ー]+|\p{Hiragana}+|▁?\p{Latin}+|\p{N}|\n+|▁+|."
"""A space belongs to the Latin word after it; every digit is a token, as in Gemma's vocabulary."""


def train_tokenizer(texts: Sequence[str], vocab_size: int, *, alphabet: int = 1000) -> PreTrainedTokenizerFast:
    """Train a tokenizer; equal texts give an equal tokenizer.

    Offsets are characters of the text as given. A token that is one byte of a character has that character's range,
    so the bytes of a rare character all map to the whole of it.

    Args:
        texts: training texts.
        vocab_size: maximum number of tokens, special and byte tokens included; short texts yield fewer.
        alphabet: number of characters with a token of their own, the most frequent ones; others are spelt in bytes.
    """
    draft = _untrained(BPE(byte_fallback=True))
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[*SPECIAL_TOKENS, *BYTE_TOKENS],
        show_progress=False,
    )
    draft.train_from_iterator(_without_rare(texts, alphabet), trainer)
    # The trainer reserves tokens only as special ones; a byte token must not be special, or the text "<0x41>" would
    # become one byte and every rare character would count as a special position.
    model = json.loads(draft.to_str())["model"]
    merges = [tuple(pair) for pair in model["merges"]]
    tokenizer = _untrained(BPE(model["vocab"], merges, byte_fallback=True, fuse_unk=True, unk_token=UNK))
    tokenizer.add_special_tokens(list(SPECIAL_TOKENS))
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", pair=f"{BOS} $A {BOS} $B", special_tokens=[(BOS, SPECIAL_TOKENS.index(BOS))]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=BOS, eos_token=EOS, unk_token=UNK, pad_token=PAD, padding_side="right"
    )


def _without_rare(texts: Sequence[str], alphabet: int) -> list[str]:
    """Replace rare characters by spaces.

    The trainer's own limit breaks ties at random, and joins the characters on both sides of a dropped one.
    """
    counts = Counter(character for text in texts for character in text)
    rare = sorted(counts, key=lambda character: (-counts[character], character))[alphabet:]
    return [text.translate(dict.fromkeys(map(ord, rare), " ")) for text in texts]


def _untrained(model: BPE) -> Tokenizer:
    """Tokenizer around a model, with normalizer, pre-tokenizer and decoder."""
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(_PIECES), "isolated")
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    return tokenizer
