"""Batches of texts of similar length."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tegakari.models.classifier import Classifier
from tegakari.models.tokens import Batch, Tokenized, bucketed
from tegakari.schemas.errors import QueryError

BATCH_TOKENS = 4096
"""Tokens per forward pass, padding included."""


def tokenized(classifier: Classifier, texts: Sequence[str]) -> list[Tokenized]:
    """Tokens of each text.

    Raises:
        QueryError: a text has no token.
    """
    tokens = classifier.tokenize(texts)
    for number, text_tokens in enumerate(tokens):
        if not text_tokens.positions:
            raise QueryError(f"{texts[number][:20]!r} has no token", field=f"texts[{number}]", fix="leave it out")
    return tokens


def batches(classifier: Classifier, tokens: Sequence[Tokenized]) -> Iterator[tuple[list[int], Batch]]:
    """Batches of at most BATCH_TOKENS tokens, each with the numbers of its texts, ascending."""
    for group in bucketed([len(text_tokens) for text_tokens in tokens], BATCH_TOKENS):
        members = sorted(group)
        yield members, classifier.batch([tokens[member] for member in members])
