"""Pairs of similar documents with different labels, for activation patching."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from tegakari.store.queries.runs import evaluation_documents
from tegakari.store.queries.search import _table
from tegakari.store.reader import Run
from tegakari.store.vectors import EMBEDDINGS

DEFAULT_MIN_COSINE = 0.8
"""Of the study's pairs of posts."""


PAIR_BLOCK = 512
"""Documents compared with all others at a time."""


class Pairs(NamedTuple):
    """Pairs of documents, in the order of their numbers."""

    clean: np.ndarray
    """int32 [n]: document numbers"""
    corrupted: np.ndarray
    """int32 [n]"""
    cosine: np.ndarray
    """float32 [n], of their embeddings"""
    found: int
    """pairs that qualify, of which n were drawn"""
    correct: int
    """documents that could be in a pair: those that the classifier predicts correctly"""


def similar_pairs(run: Run, *, min_cosine: float = DEFAULT_MIN_COSINE, n: int = 1000, seed: int = 0) -> Pairs:
    """Draw pairs of documents that are near but differ in label, both predicted correctly (the study, section 3.2).

    Evaluation documents only; (a, b) and (b, a) are two pairs: which one is clean matters. All pairs are looked at, a
    block of documents at a time, and every one that qualifies is as likely to be drawn as any other.

    Raises:
        NotFoundError: a run without vectors, or without evaluation documents.
    """
    known = run.blocks.documents
    label = np.asarray(known.label_id)
    correct = np.flatnonzero(label == np.asarray(known.predicted_id)).astype(np.int32)
    correct = np.intersect1d(correct, evaluation_documents(run)).astype(np.int32)
    table = _table(run, EMBEDDINGS).to_arrow().sort_by("document")
    width = run.manifest.classifier.d_model
    vectors = table["vector"].combine_chunks().values.to_numpy().reshape(-1, width)[correct]
    vectors = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), np.finfo(np.float32).tiny)
    random = np.random.default_rng(seed)
    keys, rows, cosines, found = np.empty(0), np.empty((0, 2), np.int32), np.empty(0, np.float32), 0
    for start in range(0, len(correct), PAIR_BLOCK):
        cosine = vectors[start : start + PAIR_BLOCK] @ vectors.T
        own = label[correct[start : start + PAIR_BLOCK]]
        a, b = np.nonzero((cosine >= min_cosine) & (own[:, None] != label[correct]))
        found += len(a)
        # The n smallest of independent random keys are a uniform draw, and need no more memory than n pairs.
        keys = np.concatenate((keys, random.random(len(a))))
        rows = np.concatenate((rows, np.stack((correct[start + a], correct[b]), axis=1)))
        cosines = np.concatenate((cosines, cosine[a, b]))
        kept = np.argsort(keys, kind="stable")[:n]
        keys, rows, cosines = keys[kept], rows[kept], cosines[kept]
    order = np.lexsort((rows[:, 1], rows[:, 0]))
    return Pairs(rows[order, 0], rows[order, 1], cosines[order], found, len(correct))
