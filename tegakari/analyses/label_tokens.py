"""Tokens of a label: those in more of its documents than chance gives.

A feature of a label that is most active on a token of all labels, such as a full stop, depends on what surrounds the
token. So only a token of the label can be its clue.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from tegakari.store import Run
from tegakari.store.weak_cache import weakly_cached

MAX_PROBABILITY = 0.05
"""Largest probability that a label has a token by chance: Bonferroni's bound over all tokens of the run."""


class TokenDocuments:
    """Documents in which each token of a run occurs."""

    def __init__(self, run: Run) -> None:
        """Count a token once per document."""
        documents = run.blocks.documents
        first, ids = np.asarray(documents.first_token), np.asarray(documents.token_ids, np.int64)
        labels = np.asarray(documents.label_id)
        document = np.repeat(np.arange(len(labels)), np.diff(first))
        pairs = np.unique(ids * len(labels) + document)
        self._token, self._start = np.unique(pairs // len(labels), return_index=True)
        self._label = labels[pairs % len(labels)]
        self._of_label = np.bincount(labels, minlength=len(run.labels))
        self._log_factorial = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, len(labels) + 1)))])

    def shares(self, token: int, label_id: int) -> Shares:
        """Shares of documents with a token that occurs in the run."""
        inside, total = self._counts(token, label_id)
        documents, all_documents = int(self._of_label[label_id]), len(self._log_factorial) - 1
        return Shares(inside / max(documents, 1), (total - inside) / max(all_documents - documents, 1))

    def are_of_label(self, tokens: Sequence[int], label_id: int) -> list[bool]:
        """Whether each token is in more documents of a label than chance gives (hypergeometric distribution).

        Args:
            tokens: ids that occur in the run.
            label_id: number of the label.
        """
        bound = np.log(MAX_PROBABILITY / len(self._token))
        return [bool(self._log_probability(token, label_id) <= bound) for token in tokens]

    def _log_probability(self, token: int, label_id: int) -> float:
        """Logarithm of the probability that so many documents of a label, or more, have a token by chance."""
        inside, total = self._counts(token, label_id)
        documents, all_documents = int(self._of_label[label_id]), len(self._log_factorial) - 1
        numbers = np.arange(inside, min(total, documents) + 1)
        terms = (
            self._log_choose(total, numbers)
            + self._log_choose(all_documents - total, documents - numbers)
            - self._log_choose(all_documents, np.array(documents))
        )
        return float(np.logaddexp.reduce(terms))

    def _counts(self, token: int, label_id: int) -> tuple[int, int]:
        """Documents of a label with a token, and documents of all labels with it."""
        place = int(np.searchsorted(self._token, token))
        stop = self._start[place + 1] if place + 1 < len(self._start) else len(self._label)
        labels = self._label[self._start[place] : stop]
        return int((labels == label_id).sum()), len(labels)

    def _log_choose(self, n: int, k: np.ndarray) -> np.ndarray:
        possible = (k >= 0) & (k <= n)
        chosen = np.where(possible, k, 0)
        factorial = self._log_factorial
        return np.where(possible, factorial[n] - factorial[chosen] - factorial[n - chosen], -np.inf)


class Shares(NamedTuple):
    """Shares of documents that contain a token."""

    label: float
    """of the label's documents"""
    others: float
    """of the documents of other labels"""


@weakly_cached(maxsize=2)  # the runs of a study
def token_documents(run: Run) -> TokenDocuments:
    """Documents in which each token of a run occurs; 12 bytes per token and document."""
    return TokenDocuments(run)
