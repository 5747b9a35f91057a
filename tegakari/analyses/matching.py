"""Matching: features that two runs share, by correlation of activations and by cosine of decoder directions.

Activations can be compared between any two runs of the same documents; the null is the same count with the documents of
one run permuted. Directions can be compared only if both classifiers were fine-tuned from one model (otherwise the
dimensions of their residuals are unrelated) and if both SAEs began with directions of their own; the null is the best
cosine of independent initial directions.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from tegakari.analyses.visible_text import visible_tokens
from tegakari.models.sae_start import start_directions
from tegakari.schemas.errors import NotFoundError
from tegakari.schemas.matching import (
    CUTOFFS,
    NEAR_START,
    NO_MATCH_BELOW,
    NULL_PERCENTILE,
    SAME_NUMBER_SHARE,
    CorrelatedPairs,
    LayerMatching,
    MatchingResult,
    OnlyInOne,
    SharedDirections,
    StartDistance,
)
from tegakari.store import Run
from tegakari.store.queries import decoder_directions

FEATURES_PER_BLOCK = 1024
"""Features of one run compared at a time with all features of the other."""

MAX_EXAMPLES = 3

_NULL_SEEDS = (1, 2)
"""Of the independent directions of the null of cosines."""

_MIN_SAME_NUMBER = 3
"""Pairs with equal feature numbers that cannot be a coincidence."""


class BestMatches(NamedTuple):
    """Best match in the other run of each feature."""

    match: np.ndarray
    """int64 [F]"""
    value: np.ndarray
    """float32 [F]: cosine or correlation; 0 for features without a match"""


def match_features(a: Run, b: Run) -> MatchingResult:
    """Compare the features of two runs, in each layer that both have.

    Raises:
        NotFoundError: the runs share no document.
    """
    rows_a, rows_b = _shared_documents(a, b)
    if not len(rows_a):
        raise NotFoundError("the runs share no document", field="--run", fix="choose runs of one corpus")
    no_cosine = _why_no_cosine(a, b)
    matchings = []
    matches_a: dict[int, BestMatches] = {}
    matches_b: dict[int, BestMatches] = {}
    for layer in [layer for layer in a.manifest.saes.layers if layer in b.manifest.saes.layers]:
        activations = standardised(a, layer, rows_a), standardised(b, layer, rows_b)
        matches_a[layer], matches_b[layer] = best_matches(*activations)
        permuted = np.random.default_rng(layer).permutation(len(rows_b))
        cosines = _match_directions(a, b, layer) if no_cosine is None else _MatchedDirections(no_cosine)
        matchings.append(
            LayerMatching(
                layer=layer,
                active=[int((np.abs(of_run).max(0) > 0).sum()) for of_run in activations],
                by_correlation=_correlated_pairs(
                    (matches_a[layer], matches_b[layer]), best_matches(activations[0], activations[1][permuted])
                ),
                by_cosine=cosines.shared,
                cosine_null=cosines.null,
                no_cosine=cosines.reason,
                moved=cosines.moved,
            )
        )
    return MatchingResult(
        runs=[a.name, b.name],
        shared_documents=len(rows_a),
        no_cosine=no_cosine,
        layers=matchings,
        only=[*_only(a, matches_a), *_only(b, matches_b)],
    )


def standardised(run: Run, layer: int, documents: np.ndarray) -> np.ndarray:
    """Pooled activations, float32 [D, F]; the column of each feature is centred and has norm 1, or is 0.

    Args:
        run: published.
        layer: of the run.
        documents: int64 [D], numbers of documents.
    """
    row_of_document = np.full(run.manifest.corpus.documents, -1)
    row_of_document[documents] = np.arange(len(documents))
    width = run.manifest.saes.widths[run.manifest.saes.layers.index(layer)]
    values = np.zeros((len(documents), width), np.float32)
    for part in run.layer_activations(layer):
        row = row_of_document[part.document]
        values[row[row >= 0], part.feature[row >= 0]] = part.activation[row >= 0]
    values -= values.mean(0)
    norm = np.linalg.norm(values, axis=0)
    return np.divide(values, norm, out=np.zeros_like(values), where=norm > 1e-6)


def best_matches(a: np.ndarray, b: np.ndarray) -> tuple[BestMatches, BestMatches]:
    """For columns of norm 1, float32 [n, Fa] and [n, Fb], the column of the other with the largest product."""
    value_b, match_b = np.full(b.shape[1], -np.inf, np.float32), np.zeros(b.shape[1], np.int64)
    value_a, match_a = np.empty(a.shape[1], np.float32), np.empty(a.shape[1], np.int64)
    for start in range(0, a.shape[1], FEATURES_PER_BLOCK):
        product = a[:, start : start + FEATURES_PER_BLOCK].T @ b
        stop = start + len(product)
        match_a[start:stop], value_a[start:stop] = product.argmax(1), product.max(1)
        best = product.argmax(0)
        better = product[best, np.arange(product.shape[1])] > value_b
        value_b[better], match_b[better] = product.max(0)[better], start + best[better]
    return BestMatches(match_a, value_a), BestMatches(match_b, value_b)


def _mutual(a: BestMatches, b: BestMatches) -> np.ndarray:
    """Whether each feature of the first run is the best match of its best match, bool [F]."""
    return b.match[a.match] == np.arange(len(a.match))


def _correlated_pairs(
    matches: tuple[BestMatches, BestMatches], by_chance: tuple[BestMatches, BestMatches]
) -> list[CorrelatedPairs]:
    """Per cut-off the number of pairs of features, and that with permuted documents."""
    counts = [
        [int((_mutual(*pair) & (pair[0].value >= cutoff)).sum()) for cutoff in CUTOFFS] for pair in (matches, by_chance)
    ]
    return [
        CorrelatedPairs(cutoff=cutoff, pairs=pairs, by_chance=chance)
        for cutoff, pairs, chance in zip(CUTOFFS, *counts, strict=True)
    ]


class _MatchedDirections(NamedTuple):
    """Decoder directions of one layer of both runs, compared."""

    reason: str | None
    """why no pairs are counted"""
    shared: list[SharedDirections] | None = None
    null: float | None = None
    moved: list[StartDistance | None] = [None, None]  # noqa: RUF012  # never changed


def _match_directions(a: Run, b: Run, layer: int) -> _MatchedDirections:
    """Pairs of active features by cosine.

    Features that are never active were hardly trained, and are left out.
    """
    directions, numbers, moved = [], [], []
    for run in (a, b):
        rows = decoder_directions(run, layer)
        rows = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), np.finfo(np.float32).tiny)
        active = run.blocks.features["active_positions"][run.blocks.places.slice_of(layer)] > 0
        numbers.append(np.flatnonzero(active))
        directions.append(np.ascontiguousarray(rows[active].T))
        moved.append(_start_distance(run, layer, rows))
    if not all(map(len, numbers)):
        return _MatchedDirections("a run has no active feature in the layer", moved=moved)
    null = _cosine_null(len(numbers[0]), len(numbers[1]), len(directions[0]))
    matches = best_matches(*directions)
    pairs = _mutual(*matches) & (matches[0].value > null)
    same_number = int((numbers[0] == numbers[1][matches[0].match])[pairs].sum())
    reason = _why_alike(a, b, layer, same_number, int(pairs.sum()))
    if reason:
        return _MatchedDirections(reason, null=null, moved=moved)
    shared = [
        SharedDirections(cutoff=cutoff, pairs=int((pairs & (matches[0].value >= cutoff)).sum())) for cutoff in CUTOFFS
    ]
    return _MatchedDirections(None, shared, null, moved)


def _why_alike(a: Run, b: Run, layer: int, same_number: int, pairs: int) -> str | None:
    """Reason why directions of two runs are alike whatever their classifiers are; None if there is none."""
    if a.manifest.saes.sha256 == b.manifest.saes.sha256:
        return "both runs have the same SAEs"
    seeds = [_start_seed(run, layer) for run in (a, b)]
    if seeds[0] is not None and seeds[0] == seeds[1]:
        return "both SAEs began with the same directions"
    if same_number >= max(_MIN_SAME_NUMBER, SAME_NUMBER_SHARE * pairs):
        return f"both SAEs began alike: in {same_number} of {pairs} pairs both features have the same number"
    return None


def _start_seed(run: Run, layer: int) -> int | None:
    """Seed of the initial directions of a layer; None if it is not known."""
    saes = run.manifest.saes
    return saes.start_seeds[saes.layers.index(layer)] if saes.start_seeds else None


def _start_distance(run: Run, layer: int, directions: np.ndarray) -> StartDistance | None:
    """Cosines of directions of norm 1, float32 [F, d_model], to the initial ones."""
    seed = _start_seed(run, layer)
    if seed is None:
        return None
    cosine = (directions * start_directions(seed, *directions.shape)).sum(1)
    return StartDistance(mean_cosine=float(cosine.mean()), near_start=float((cosine > NEAR_START).mean()))


def _cosine_null(features_a: int, features_b: int, d_model: int) -> float:
    """A percentile of the best cosine of each of two sets of independent directions in the other set."""
    sets = (
        start_directions(seed, features, d_model).T
        for seed, features in zip(_NULL_SEEDS, (features_a, features_b), strict=True)
    )
    values = np.concatenate([matches.value for matches in best_matches(*sets)])
    return float(np.percentile(values, NULL_PERCENTILE))


def _only(run: Run, matches: dict[int, BestMatches]) -> list[OnlyInOne]:
    """Label-specific features without a match in the other run, by label.

    Args:
        run: published.
        matches: by layer.
    """
    blocks, pooling = run.blocks, run.manifest.pooling
    d = blocks.statistics["d", pooling]
    variety = np.asarray(blocks.features[f"variety_{pooling}"])
    specific: dict[int, list[tuple[float, int, float]]] = {}  # by label: -d, place of the feature, value of the match
    for layer, of_layer in matches.items():
        layer_places = blocks.places.slice_of(layer)
        places = layer_places.start + np.flatnonzero(variety[layer_places] == 1)
        label = np.nanargmax(np.where(np.isnan(d[:, places]), -np.inf, d[:, places]), axis=0) if len(places) else []
        for place, label_id in zip(places.tolist(), label, strict=True):
            value = float(of_layer.value[place - layer_places.start])
            specific.setdefault(int(label_id), []).append((-float(d[label_id, place]), place, value))
    rows = []
    for label_id, features in sorted(specific.items()):
        unmatched = [place for _, place, value in sorted(features) if value < NO_MATCH_BELOW]
        rows.append(
            OnlyInOne(
                run=run.name,
                label=run.labels[label_id],
                specific=len(features),
                only=len(unmatched),
                examples=[_example(run, place) for place in unmatched[:MAX_EXAMPLES]],
            )
        )
    return rows


def _example(run: Run, place: int) -> str:
    """Layer, feature and strongest tokens: `2:17 車 自動車`."""
    columns = run.blocks.features
    (tokens,) = run.blocks.shown_texts(np.array([place]))
    return f"{int(columns['layer'][place])}:{int(columns['feature'][place])} {visible_tokens(tokens)}"


def _shared_documents(a: Run, b: Run) -> tuple[np.ndarray, np.ndarray]:
    """Numbers in each run of the documents that both have, int64 [D], in the order of ids."""
    numbers_a, numbers_b = (
        {id_: number for number, id_ in enumerate(run.blocks.documents.id.to_pylist())} for run in (a, b)
    )
    shared = sorted(numbers_a.keys() & numbers_b.keys())
    return (
        np.array([numbers_a[id_] for id_ in shared], np.int64),
        np.array([numbers_b[id_] for id_ in shared], np.int64),
    )


def _why_no_cosine(a: Run, b: Run) -> str | None:
    """Reason why decoder directions cannot be compared; None if they can."""
    if a.manifest.classifier.d_model != b.manifest.classifier.d_model:
        return "the runs differ in d_model"
    try:
        for run in (a, b):
            decoder_directions(run, run.manifest.saes.layers[0])
    except NotFoundError as error:
        return error.message
    return None
