"""Runs with random vectors, and cosines by brute force."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from tegakari.store import Run, Store
from tegakari.store.vectors import publish_added
from tests.support.factories import make_run

D_MODEL = 8


class Vectors(NamedTuple):
    """Vectors of a run."""

    directions: dict[int, np.ndarray]
    """layer -> float32 [d_sae, d_model]"""
    embeddings: np.ndarray
    """float32 [documents, d_model]"""


class VectorsCase(NamedTuple):
    """A store with the runs `one` and `two`, which have vectors, and `bare`, which has none."""

    store: Path
    vectors: dict[str, Vectors]
    """by run"""

    def run(self, name: str) -> Run:
        return Store(self.store).run(name)


def make_vectors_case(store: Path) -> VectorsCase:
    """Draw the runs and their vectors."""
    vectors = {}
    for seed, name in enumerate(("one", "two")):
        make_run(store, name, seed=seed)
        vectors[name] = _add_vectors(store, Store(store).run(name), seed)
    make_run(store, "bare", seed=3)
    return VectorsCase(store, vectors)


def _add_vectors(store: Path, run: Run, seed: int) -> Vectors:
    draw = np.random.default_rng(seed)
    layers, widths = run.manifest.saes.layers, run.manifest.saes.widths
    directions = {
        layer: draw.standard_normal((width, D_MODEL)).astype(np.float32)
        for layer, width in zip(layers, widths, strict=True)
    }
    embeddings = draw.standard_normal((run.manifest.corpus.documents, D_MODEL)).astype(np.float32)
    texts = [row["text"] for row in run.rows("SELECT text FROM documents ORDER BY document")]
    texts[:3] = ["今日は車で買い物に行きました", "犬と散歩をした", "軽トラックを買った"]
    publish_added(store, run.manifest, directions, [embeddings], texts)
    return Vectors(directions, embeddings)


def cosine(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Cosines of a vector [d] or vectors [m, d] with vectors [n, d], float64 [n] or [m, n]."""
    a, b = a.astype(np.float64), b.astype(np.float64)
    return (a @ b.T) / np.linalg.norm(b, axis=-1) / np.linalg.norm(a, axis=-1, keepdims=a.ndim > 1)
