"""Batches of texts of similar length."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tegakari.models.classifier import Classifier
from tegakari.models.tokens import Batch, Tokenized, bucketed
from tegakari.schemas.errors import QueryError
from tegakari.schemas.progress import OnStep, no_step

BATCH_TOKENS = 4096
"""Tokens per forward pass, padding included."""


def tokenized(classifier: Classifier, texts: Sequence[str], on_step: OnStep = no_step) -> list[Tokenized]:
    """Tokens of each text.

    Args:
        classifier: that reads them.
        texts: title, newline, body.
        on_step: called after each call of the tokenizer.

    Raises:
        QueryError: a text has no token.
    """
    tokens = classifier.tokenize(texts, on_step)
    for number, text_tokens in enumerate(tokens):
        if not text_tokens.positions:
            raise QueryError(f"{texts[number][:20]!r} has no token", field=f"texts[{number}]", fix="leave it out")
    return tokens


def batches(
    classifier: Classifier, tokens: Sequence[Tokenized], batch_tokens: int = BATCH_TOKENS
) -> Iterator[tuple[list[int], Batch]]:
    """Batches of at most `batch_tokens` tokens, each with the numbers of its texts, ascending."""
    for group in bucketed([len(text_tokens) for text_tokens in tokens], batch_tokens, classifier.device.type):
        members = sorted(group)
        yield members, classifier.batch([tokens[member] for member in members])
