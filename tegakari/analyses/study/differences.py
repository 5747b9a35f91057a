"""Differences between two runs, or between two groups of replicates, each with its interval."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from tegakari.analyses.replicates import Group, difference_of_groups
from tegakari.analyses.sparsity import sparsity_values
from tegakari.analyses.statistics import (
    SAMPLES,
    Predictions,
    macro_f1,
    macro_f1_difference,
    small_sample_interval,
)
from tegakari.schemas.analysis import Interval
from tegakari.schemas.study import Difference, RunStudy
from tegakari.store import Run
from tegakari.store.queries.runs import evaluation_documents

DOCUMENTS = "documents of all runs"
LABELS = "labels of all runs"
CONCEPTS = "concepts"


class Words(NamedTuple):
    """How a figure is named."""

    name: str
    """for programs; it stays the same"""
    figure: str
    """for people"""


class Figure(NamedTuple):
    """A figure of every run, over items that all runs have."""

    words: Words
    over: str
    """what the items are"""
    items: int
    of_sample: Callable[[np.ndarray], np.ndarray]
    """float64 [runs], the figure over the items with these numbers, int64 [n]; a number may occur more than once"""


class Means(NamedTuple):
    """A figure of every run that is the mean of values of at least two items that all runs have."""

    words: Words
    over: str
    values: np.ndarray
    """float64 [runs, items]"""


class Groups(NamedTuple):
    """Numbers of runs on both sides."""

    a: int
    b: int

    @property
    def covers_training(self) -> bool:
        """Whether both sides have replicates."""
        return min(self) > 1


def differences(runs: Sequence[Run], studies: Sequence[RunStudy], groups: Groups, seed: int) -> list[Difference]:
    """Second group minus first. Documents, labels and concepts are paired where all runs have them.

    Args:
        runs: of both groups.
        studies: of these runs.
        groups: numbers of runs; both 1, or both at least 2.
        seed: of the intervals.
    """
    rows = _shared_rows(runs)
    shared = len(rows[0]) > 0
    figures = [
        *(_sparsity(runs, rows) if shared else []),
        *_knockouts(studies),
        *_cues(studies),
        *_variants(studies),
    ]
    return [
        *([_macro_f1(runs, rows, groups, seed)] if shared else []),
        _variety(runs, studies, groups),
        *(difference_of_means(means, groups, seed) for means in figures),
    ]


def same_tokens(runs: Sequence[Run]) -> bool:
    """Whether runs read the documents that they share as the same tokens; True for one run."""
    if len(runs) < 2:
        return True
    documents = [run.blocks.documents for run in runs]
    for numbers in zip(*_shared_rows(runs), strict=True):
        first, *others = (
            of_run.token_ids[of_run.first_token[number] : of_run.first_token[number + 1]]
            for of_run, number in zip(documents, numbers, strict=True)
        )
        if not all(np.array_equal(first, other) for other in others):
            return False
    return True


def difference_of(figure: Figure, groups: Groups, seed: int) -> Difference:
    """Difference of a figure of two groups of replicates: over its items, and over training."""
    values = figure.of_sample(np.arange(figure.items))
    generator = np.random.default_rng(seed)
    draws = (generator.integers(0, figure.items, figure.items) for _ in range(SAMPLES))
    samples = np.array([figure.of_sample(draw) for draw in draws])
    a, b = (Group(values[side], samples[:, side]) for side in (slice(0, groups.a), slice(groups.a, None)))
    return _row(figure.words, values, difference_of_groups(a, b, figure.items), groups, figure.over, figure.items)


def difference_of_means(means: Means, groups: Groups, seed: int) -> Difference:
    """Difference of means; of two runs with Student's interval of the paired differences, which may be few."""
    words, over, values = means
    items = values.shape[1]
    if groups.covers_training:
        return difference_of(Figure(words, over, items, lambda sample: values[:, sample].mean(1)), groups, seed)
    return _row(words, values.mean(1), small_sample_interval(values[1] - values[0]), groups, over, items)


def _row(words: Words, values: np.ndarray, interval: Interval, groups: Groups, over: str, n: int) -> Difference:
    a, b = values[: groups.a], values[groups.a :]
    return Difference(
        name=words.name,
        figure=words.figure,
        a=float(a.mean()),
        b=float(b.mean()),
        difference=interval,
        values=[a.tolist(), b.tolist()],
        covers_training=groups.covers_training,
        over=over,
        n=n,
    )


def _variety(runs: Sequence[Run], studies: Sequence[RunStudy], groups: Groups) -> Difference:
    """With one run on each side, the distances of both intervals over documents in quadrature; else the runs say all.

    Runs that share documents err alike, which makes the interval of the difference too wide rather than too narrow.
    """
    words, over = Words("mean_variety", "mean label variety"), "documents of each run"
    varieties = [study.specificity.mean_variety for study in studies]
    means = np.array([variety.value for variety in varieties])
    if groups.covers_training:
        a, b = (Group(side, np.empty((0, len(side)))) for side in (means[: groups.a], means[groups.a :]))
        return _row(words, means, difference_of_groups(a, b, 0), groups, "training", 0)
    value, distance = float(means[1] - means[0]), math.hypot(*(variety.high - variety.value for variety in varieties))
    interval = Interval(value=value, low=value - distance, high=value + distance)
    return _row(words, means, interval, groups, over, min(sum(run.label_documents) for run in runs))


def _sparsity(runs: Sequence[Run], rows: Sequence[np.ndarray]) -> list[Means]:
    values = [sparsity_values(run) for run in runs]
    active = [of_run.active[:, numbers].mean(0) for of_run, numbers in zip(values, rows, strict=True)]
    ratio = np.array([of_run.ratio[:, numbers].mean(0) for of_run, numbers in zip(values, rows, strict=True)])
    return [
        *_means(Words("active_features", "active features of a document"), np.array(active), DOCUMENTS),
        *_means(Words("top20_ratio", "top-20 ratio"), ratio[:, ~np.isnan(ratio).any(0)], DOCUMENTS),
    ]


def _knockouts(studies: Sequence[RunStudy]) -> list[Means]:
    """Points lost, positive where recall falls, by labels beyond their control in all runs; net, those of all labels.

    There are none unless every run has a mean effect: then nothing shows that a knockout does more than its control.
    """
    rows = list(zip(*(study.knockouts for study in studies), strict=True))
    beyond = [row for row in rows if all(knockout.beyond_control for knockout in row)]
    if len(beyond) < 2 or not all(study.knockout_mean.shown for study in studies):
        return []
    points = np.array([[-knockout.delta for knockout in row] for row in beyond]).T
    net = np.array([[-knockout.net.value if knockout.net else np.nan for knockout in row] for row in rows]).T
    return [
        *_means(Words("points_lost", "points lost in a knockout"), points, "labels beyond their control in all runs"),
        *_means(Words("net_points_lost", "points lost in a knockout, net of its control"), net, LABELS),
    ]


def _cues(studies: Sequence[RunStudy]) -> list[Means]:
    cues_by_label = [{cues.label: cues for cues in study.cues} for study in studies]
    labels = sorted(set.intersection(*(set(of_run) for of_run in cues_by_label)))  # whatever the order of runs
    shares = [[of_run[label].top_token_share.value for label in labels] for of_run in cues_by_label]
    unique = [[of_run[label].unique_tokens.value for label in labels] for of_run in cues_by_label]
    return [
        *_means(Words("top_token_share", "top token share of a label"), np.array(shares), LABELS),
        *_means(Words("unique_tokens", "unique tokens of a label"), np.array(unique), LABELS),
    ]


def _variants(studies: Sequence[RunStudy]) -> list[Means]:
    """Survival over the concepts that have a value in all runs; none if a run has no written variants."""
    tables = [study.variants for study in studies if study.variants]
    if len(tables) < len(studies):
        return []
    figures = []
    for rows in zip(*(table.rows for table in tables), strict=True):
        if rows[0].kind != "unrelated":
            survival = np.array([row.of_concepts for row in rows], np.float64)
            k, kind = rows[0].k, rows[0].kind
            words = Words(f"survival_{kind}_{k}", f"survival of written variants, k = {k}, {kind}")
            figures += _means(words, survival[:, ~np.isnan(survival).any(0)], CONCEPTS)
    return figures


def _shared_rows(runs: Sequence[Run]) -> list[np.ndarray]:
    """Per run the numbers of the evaluation documents that all runs have, of shared labels, in the order of ids."""
    labels = set.intersection(*(set(run.labels) for run in runs))
    numbers_by_id = []
    for run in runs:
        documents = run.blocks.documents
        numbers = evaluation_documents(run)
        ids = documents.id.take(pa.array(numbers)).to_pylist()
        label_ids = np.asarray(documents.label_id)[numbers].tolist()
        rows = zip(ids, numbers.tolist(), label_ids, strict=True)
        numbers_by_id.append({id_: number for id_, number, label in rows if run.labels[label] in labels})
    shared = sorted(set.intersection(*(set(of_run) for of_run in numbers_by_id)))
    return [np.array([of_run[id_] for id_ in shared], np.int64) for of_run in numbers_by_id]


def _macro_f1(runs: Sequence[Run], rows: Sequence[np.ndarray], groups: Groups, seed: int) -> Difference:
    predictions = [
        Predictions(
            np.asarray(run.blocks.documents.label_id)[numbers],
            np.asarray(run.blocks.documents.predicted_id)[numbers],
            len(run.labels),
        )
        for run, numbers in zip(runs, rows, strict=True)
    ]

    def scores(sample: np.ndarray) -> np.ndarray:
        return np.array(
            [macro_f1(expected[sample], predicted[sample], labels) for expected, predicted, labels in predictions]
        )

    words, n = Words("macro_f1", "macro-F1"), len(rows[0])
    if groups.covers_training:
        return difference_of(Figure(words, DOCUMENTS, n, scores), groups, seed)
    interval = macro_f1_difference(predictions[0], predictions[1])
    return _row(words, scores(np.arange(n)), interval, groups, DOCUMENTS, n)


def _means(words: Words, values: np.ndarray, over: str) -> list[Means]:
    """The mean over items of values, float64 [runs, items]; none of fewer than two items."""
    return [Means(words, over, values)] if values.size and values.shape[1] > 1 else []
