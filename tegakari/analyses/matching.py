"""Which features two runs share: by what they react to, and by where their decoder directions point.

Activations can be compared between any two runs of the same documents. Directions can be only where both classifiers
are near relatives, fine-tuned from one model: otherwise the entries of their residuals mean different things.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from tegakari.schemas.errors import NotFoundError
from tegakari.schemas.matching import CUTOFFS, LONELY, LayerMatching, MatchingResult, OnlyInOne, SharedFeatures
from tegakari.store import Run
from tegakari.store.queries import decoder_directions

BLOCK = 1024
"""Features compared with all of the other run at a time."""

EXAMPLES = 3


class Best(NamedTuple):
    """The best match of each feature in the other run."""

    match: np.ndarray
    """int64 [F]"""
    value: np.ndarray
    """float32 [F]: cosine or correlation; 0 for features without"""


def match_features(a: Run, b: Run) -> MatchingResult:
    """Compare the features of two runs in each layer that both have.

    Raises:
        NotFoundError: the runs share no document.
    """
    rows = _shared_documents(a, b)
    if not len(rows[0]):
        raise NotFoundError("the runs share no document", field="--runs", fix="choose runs of one corpus")
    no_cosine = _why_not(a, b)
    layers, found = [], []
    for layer in [layer for layer in a.manifest.saes.layers if layer in b.manifest.saes.layers]:
        scaled = [standardised(run, layer, mine) for run, mine in zip((a, b), rows, strict=True)]
        both = best_matches(*scaled)
        found.append((layer, both))
        by_cosine = None
        if no_cosine is None:
            by_cosine = _mutual(best_matches(*(_active_directions(run, layer) for run in (a, b))))
        active = [int((np.abs(each).max(0) > 0).sum()) for each in scaled]
        layers.append(LayerMatching(layer=layer, active=active, by_correlation=_mutual(both), by_cosine=by_cosine))
    return MatchingResult(
        runs=[a.name, b.name],
        shared_documents=len(rows[0]),
        no_cosine=no_cosine,
        layers=layers,
        only=[row for at, run in enumerate((a, b)) for row in _only(run, [(layer, both[at]) for layer, both in found])],
    )


def standardised(run: Run, layer: int, documents: np.ndarray) -> np.ndarray:
    """Pooled activations of some documents, float32 [D, F]; each feature is centred and has norm 1, or 0."""
    at = run.manifest.saes.layers.index(layer)
    place = np.full(run.manifest.corpus.documents, -1)
    place[documents] = np.arange(len(documents))
    values = np.zeros((len(documents), run.manifest.saes.widths[at]), np.float32)
    for part in run.layer_activations(layer):
        row = place[part.document]
        values[row[row >= 0], part.feature[row >= 0]] = part.activation[row >= 0]
    values -= values.mean(0)
    norm = np.linalg.norm(values, axis=0)
    return np.divide(values, norm, out=np.zeros_like(values), where=norm > 1e-6)


def best_matches(a: np.ndarray, b: np.ndarray) -> tuple[Best, Best]:
    """For columns of unit norm, float32 [n, Fa] and [n, Fb], the column of the other with the largest product."""
    value_b, match_b = np.full(b.shape[1], -np.inf, np.float32), np.zeros(b.shape[1], np.int64)
    value_a, match_a = np.empty(a.shape[1], np.float32), np.empty(a.shape[1], np.int64)
    for start in range(0, a.shape[1], BLOCK):
        product = a[:, start : start + BLOCK].T @ b
        stop = start + len(product)
        match_a[start:stop], value_a[start:stop] = product.argmax(1), product.max(1)
        best = product.argmax(0)
        better = product[best, np.arange(product.shape[1])] > value_b
        value_b[better], match_b[better] = product.max(0)[better], start + best[better]
    return Best(match_a, value_a), Best(match_b, value_b)


def _mutual(both: tuple[Best, Best]) -> list[SharedFeatures]:
    mine, theirs = both
    agree = theirs.match[mine.match] == np.arange(len(mine.match))
    return [SharedFeatures(cutoff=cutoff, pairs=int((agree & (mine.value >= cutoff)).sum())) for cutoff in CUTOFFS]


def _only(run: Run, best: Sequence[tuple[int, Best]]) -> list[OnlyInOne]:
    """Label-specific features without a match, by label."""
    hot, pooling = run.blocks, run.manifest.pooling
    d = hot.statistics["d", pooling]
    specific: dict[int, list[tuple[float, int, float]]] = {}
    for layer, found in best:
        where = hot.places.slice_of(layer)
        places = where.start + np.flatnonzero(np.asarray(hot.features[f"variety_{pooling}"])[where] == 1)
        owner = np.nanargmax(np.where(np.isnan(d[:, places]), -np.inf, d[:, places]), axis=0) if len(places) else []
        for place, label in zip(places.tolist(), owner, strict=True):
            row = (-float(d[label, place]), place, float(found.value[place - where.start]))
            specific.setdefault(int(label), []).append(row)
    return [
        OnlyInOne(
            run=run.name,
            label=run.labels[label],
            specific=len(rows),
            only=sum(value < LONELY for _, _, value in rows),
            examples=[_shown(run, place) for _, place, value in sorted(rows) if value < LONELY][:EXAMPLES],
        )
        for label, rows in sorted(specific.items())
    ]


def _shown(run: Run, place: int) -> str:
    columns = run.blocks.features
    (tokens,) = run.blocks.shown_texts(np.array([place]))
    return f"{int(columns['layer'][place])}:{int(columns['feature'][place])} {' '.join(tokens)}"


def _shared_documents(a: Run, b: Run) -> tuple[np.ndarray, np.ndarray]:
    first, second = ({id_: n for n, id_ in enumerate(run.blocks.documents.id.to_pylist())} for run in (a, b))
    shared = sorted(first.keys() & second.keys())
    return tuple(np.array([numbers[id_] for id_ in shared], np.int64) for numbers in (first, second))  # type: ignore[return-value]


def _why_not(a: Run, b: Run) -> str | None:
    if a.manifest.classifier.d_model != b.manifest.classifier.d_model:
        return "the runs differ in d_model"
    try:
        for run in (a, b):
            decoder_directions(run, run.manifest.saes.layers[0])
    except NotFoundError as error:
        return error.message
    return None


def _active_directions(run: Run, layer: int) -> np.ndarray:
    """Decoder directions of norm 1, float32 [d_model, F]; 0 for features that never fire.

    Those were hardly trained: in SAEs that began with the same seed they still point where both began.
    """
    vectors = decoder_directions(run, layer)
    fires = run.blocks.features["active_positions"][run.blocks.places.slice_of(layer)] > 0
    norm = np.linalg.norm(vectors, axis=1, keepdims=True)
    return (vectors / np.maximum(norm, np.finfo(np.float32).tiny) * fires[:, None]).T
