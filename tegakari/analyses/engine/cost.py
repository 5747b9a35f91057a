"""What an analysis costs: tokens that pass through a classifier. Estimated from the run alone, before models load."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from tegakari.schemas.errors import TooCostlyError
from tegakari.store import Run


class Cost(NamedTuple):
    """Estimated cost of an analysis."""

    documents: int
    """documents or texts"""
    tokens: int
    """of all documents together, special ones included"""
    passes: int = 1
    """passes of each document through the classifier"""

    @property
    def total(self) -> int:
        """Tokens times passes."""
        return self.tokens * self.passes

    def check(self, maximum: int, *, field: str, key: str, fix: str) -> None:
        """Refuse an analysis that costs too much.

        Args:
            maximum: tokens times passes.
            field: of the request, that makes it large.
            key: of the configuration, that sets the maximum.
            fix: how to make the request smaller.

        Raises:
            TooCostlyError: it costs more.
        """
        if self.total > maximum:
            passes = f" x {self.passes:,} passes" if self.passes > 1 else ""
            raise TooCostlyError(
                f"{self.documents:,} documents of {self.tokens:,} tokens{passes} are up to {self.total:,} tokens for "
                f"the models; the maximum is {maximum:,}",
                field=field,
                fix=f"{fix}; whoever runs the server can raise `{key}`",
            )


def cost_of_texts(run: Run, texts: Iterable[str], passes: int = 1) -> Cost:
    """Cost of texts that are not tokenized yet: a token has a byte at least, and a text `max_length` tokens at most."""
    longest = run.manifest.classifier.max_length
    sizes = [len(text) if len(text) > longest else len(text.encode(errors="replace")) for text in texts]
    return Cost(len(sizes), sum(min(longest, size + _SPECIAL_TOKENS) for size in sizes), passes)


_SPECIAL_TOKENS = 2
"""Tokens that a tokenizer adds to a text: one before, one after."""


def cost_of_documents(run: Run, numbers: np.ndarray, passes: int = 1) -> Cost:
    """Cost of documents of a run.

    Args:
        run: published.
        numbers: int64 [D], of the documents.
        passes: of each document.
    """
    first = run.blocks.documents.first_token
    return Cost(len(numbers), int((first[numbers + 1] - first[numbers]).sum(dtype=np.int64)), passes)
