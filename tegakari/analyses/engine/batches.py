"""Texts in batches of about the same length."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tegakari.models.classifier import Classifier
from tegakari.models.tokens import Batch, Tokenized, bucketed
from tegakari.schemas.errors import QueryError

BATCH_TOKENS = 4096
"""tokens of a forward pass, padding included"""


def tokenized(classifier: Classifier, texts: Sequence[str]) -> list[Tokenized]:
    """Texts as the classifier reads them.

    Raises:
        QueryError: a text without a token.
    """
    tokens = classifier.tokenize(texts)
    for number, item in enumerate(tokens):
        if not item.positions:
            raise QueryError(f"{texts[number][:20]!r} has no token", field=f"texts[{number}]", fix="leave it out")
    return tokens


def batches(classifier: Classifier, tokens: Sequence[Tokenized]) -> Iterator[tuple[list[int], Batch]]:
    """Batches of documents, with the documents' numbers."""
    for group in bucketed([len(item) for item in tokens], BATCH_TOKENS):
        members = sorted(group)
        yield members, classifier.batch([tokens[member] for member in members])
