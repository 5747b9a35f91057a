"""Pairs of similar documents with different labels, for activation patching."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from tegakari.store.queries.runs import evaluation_documents
from tegakari.store.queries.search import document_embeddings
from tegakari.store.reader import Run

DEFAULT_MIN_COSINE = 0.8
"""Smallest cosine of the study's pairs of posts."""

BLOCK_DOCUMENTS = 512
"""Number of documents that are compared with all others at a time."""


class Pairs(NamedTuple):
    """Pairs of documents, sorted by their numbers."""

    clean: np.ndarray
    """int32 [n]: document numbers"""
    corrupted: np.ndarray
    """int32 [n]"""
    cosine: np.ndarray
    """float32 [n], of the two embeddings"""
    qualifying: int
    """number of pairs that qualify, of which n are drawn"""
    correct: int
    """number of documents that could be in a pair: those that the classifier predicts correctly"""


def similar_pairs(run: Run, *, min_cosine: float = DEFAULT_MIN_COSINE, n: int = 1000, seed: int = 0) -> Pairs:
    """Draw pairs of similar evaluation documents with different labels, both predicted correctly.

    (a, b) and (b, a) are two pairs: which document is the clean one matters. All pairs are compared, one block of
    documents at a time, and all that qualify are equally likely to be drawn. As in the study, section 3.2.

    Args:
        run: the run.
        min_cosine: smallest cosine of the two embeddings.
        n: number of pairs to draw.
        seed: seed of the draw.

    Raises:
        NotFoundError: the run has no vectors, or no evaluation documents.
    """
    documents = run.blocks.documents
    label = np.asarray(documents.label_id)
    correct = np.flatnonzero(label == np.asarray(documents.predicted_id)).astype(np.int32)
    correct = np.intersect1d(correct, evaluation_documents(run)).astype(np.int32)
    pairs = draw_pairs(document_embeddings(run)[correct], label[correct], min_cosine=min_cosine, n=n, seed=seed)
    return pairs._replace(clean=correct[pairs.clean], corrupted=correct[pairs.corrupted])


def draw_pairs(vectors: np.ndarray, label: np.ndarray, *, min_cosine: float, n: int, seed: int) -> Pairs:
    """Draw pairs of similar documents with different labels; arguments as of `similar_pairs`.

    Args:
        vectors: float32 [D, d], embeddings.
        label: int [D].
        min_cosine: smallest cosine of the two embeddings.
        n: number of pairs to draw.
        seed: seed of the draw.

    Returns:
        pairs of rows of `vectors`.
    """
    vectors = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), np.finfo(np.float32).tiny)
    random = np.random.default_rng(seed)
    keys, rows, cosines, qualifying = np.empty(0), np.empty((0, 2), np.int32), np.empty(0, np.float32), 0
    for start in range(0, len(label), BLOCK_DOCUMENTS):
        cosine = vectors[start : start + BLOCK_DOCUMENTS] @ vectors.T
        block_label = label[start : start + BLOCK_DOCUMENTS]
        a, b = np.nonzero((cosine >= min_cosine) & (block_label[:, None] != label))
        qualifying += len(a)
        # The n smallest of independent random keys are a uniform draw, and need no more memory than n pairs.
        keys = np.concatenate((keys, random.random(len(a))))
        rows = np.concatenate((rows, np.stack((start + a, b), axis=1).astype(np.int32)))
        cosines = np.concatenate((cosines, cosine[a, b]))
        drawn = np.argsort(keys, kind="stable")[:n]
        keys, rows, cosines = keys[drawn], rows[drawn], cosines[drawn]
    order = np.lexsort((rows[:, 1], rows[:, 0]))
    return Pairs(rows[order, 0], rows[order, 1], cosines[order], qualifying, len(label))
