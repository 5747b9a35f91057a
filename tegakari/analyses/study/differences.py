"""Differences between two runs, each with its interval."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from tegakari.analyses.sparsity import sparsity_values
from tegakari.analyses.statistics import difference_interval, interval_of_mean, interval_of_statistic, macro_f1
from tegakari.schemas.analysis import Interval
from tegakari.schemas.study import Difference, RunStudy
from tegakari.store import Run
from tegakari.store.queries.runs import evaluation_documents

DOCUMENTS = "documents of both runs"
LABELS = "labels of both runs"


def differences(runs: Sequence[Run], studies: Sequence[RunStudy], seed: int) -> list[Difference]:
    """Second run minus first. Documents, labels and concepts are paired where both runs have them.

    Args:
        runs: two.
        studies: of these runs.
        seed: of the intervals.
    """
    rows = _shared_rows(runs)
    shared = len(rows[0]) > 0
    points = [[knockout.delta for knockout in study.knockouts] for study in studies]
    return [
        *([_macro_f1(runs, rows, seed)] if shared else []),
        _variety(runs, seed),
        *(_sparsity(runs, rows, seed) if shared else []),
        _paired("points lost in a knockout", points, LABELS, seed),
        *_cues(studies, seed),
        *_variants(studies, seed),
    ]


def same_tokens(runs: Sequence[Run]) -> bool:
    """Whether two runs read the documents that they share as the same tokens; True for one run."""
    if len(runs) < 2:
        return True
    documents = [run.blocks.documents for run in runs]
    for numbers in zip(*_shared_rows(runs), strict=True):
        a, b = (
            of_run.token_ids[of_run.first_token[number] : of_run.first_token[number + 1]]
            for of_run, number in zip(documents, numbers, strict=True)
        )
        if not np.array_equal(a, b):
            return False
    return True


def _variety(runs: Sequence[Run], seed: int) -> Difference:
    variety = [np.asarray(run.blocks.features[f"variety_{run.manifest.pooling}"], np.float64) for run in runs]
    return _unpaired("mean label variety", variety, "features of each run, over the run's own labels", seed)


def _sparsity(runs: Sequence[Run], rows: Sequence[np.ndarray], seed: int) -> list[Difference]:
    values = [sparsity_values(run) for run in runs]
    active = [of_run.active[:, numbers].mean(0) for of_run, numbers in zip(values, rows, strict=True)]
    ratio = np.array([of_run.ratio[:, numbers].mean(0) for of_run, numbers in zip(values, rows, strict=True)])
    return [
        _paired("active features of a document", active, DOCUMENTS, seed),
        _paired("top-20 ratio", ratio[:, ~np.isnan(ratio).any(0)], DOCUMENTS, seed),
    ]


def _cues(studies: Sequence[RunStudy], seed: int) -> list[Difference]:
    a, b = ({cues.label: cues for cues in study.cues} for study in studies)
    labels = [label for label in a if label in b]
    if not labels:
        return []
    shares = [[of_run[label].top_token_share.value for label in labels] for of_run in (a, b)]
    unique = [[of_run[label].unique_tokens.value for label in labels] for of_run in (a, b)]
    return [
        _paired("top token share of a label", shares, LABELS, seed),
        _paired("unique tokens of a label", unique, LABELS, seed),
    ]


def _variants(studies: Sequence[RunStudy], seed: int) -> list[Difference]:
    """Survival over the concepts that have a value in both runs."""
    result = []
    for a, b in zip(*(study.variants.rows for study in studies), strict=True):
        if a.kind == "unrelated":
            continue
        pairs = [(x, y) for x, y in zip(a.of_concepts, b.of_concepts, strict=True) if x is not None and y is not None]
        if pairs:
            figure = f"survival of written variants, k = {a.k}, {a.kind}"
            result.append(_paired(figure, np.array(pairs).T, "concepts", seed))
    return result


def _shared_rows(runs: Sequence[Run]) -> list[np.ndarray]:
    """Per run the numbers of the evaluation documents that both runs have, of shared labels, in the order of ids."""
    labels = set(runs[0].labels) & set(runs[1].labels)
    numbers_by_id = []
    for run in runs:
        documents = run.blocks.documents
        numbers = evaluation_documents(run)
        ids = documents.id.take(pa.array(numbers)).to_pylist()
        label_ids = np.asarray(documents.label_id)[numbers].tolist()
        rows = zip(ids, numbers.tolist(), label_ids, strict=True)
        numbers_by_id.append({id_: number for id_, number, label in rows if run.labels[label] in labels})
    shared = sorted(numbers_by_id[0].keys() & numbers_by_id[1].keys())
    return [np.array([of_run[id_] for id_ in shared], np.int64) for of_run in numbers_by_id]


def _macro_f1(runs: Sequence[Run], rows: Sequence[np.ndarray], seed: int) -> Difference:
    predictions = [
        (
            np.asarray(run.blocks.documents.label_id)[numbers],
            np.asarray(run.blocks.documents.predicted_id)[numbers],
            len(run.labels),
        )
        for run, numbers in zip(runs, rows, strict=True)
    ]

    def scores(sample: np.ndarray) -> list[float]:
        return [macro_f1(expected[sample], predicted[sample], labels) for expected, predicted, labels in predictions]

    def difference(sample: np.ndarray) -> float:
        a, b = scores(sample)
        return b - a

    n = len(rows[0])
    a, b = scores(np.arange(n))
    interval = interval_of_statistic(difference, n, seed)
    return Difference(figure="macro-F1", a=a, b=b, difference=interval, over=DOCUMENTS, n=n)


def _paired(figure: str, values: Sequence[Sequence[float]] | np.ndarray, over: str, seed: int) -> Difference:
    a, b = (np.asarray(of_run, np.float64) for of_run in values)
    interval = interval_of_mean(b - a, seed)
    return Difference(figure=figure, a=float(a.mean()), b=float(b.mean()), difference=interval, over=over, n=len(a))


def _unpaired(figure: str, values: Sequence[np.ndarray], over: str, seed: int) -> Difference:
    a, b = values
    low, high = difference_interval(a, b, seed)
    interval = Interval(value=float(b.mean() - a.mean()), low=low, high=high)
    return Difference(
        figure=figure, a=float(a.mean()), b=float(b.mean()), difference=interval, over=over, n=min(len(a), len(b))
    )
