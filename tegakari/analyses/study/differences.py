"""Two runs side by side, every difference with its interval."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from tegakari.analyses.sparsity import sparsity_values
from tegakari.analyses.statistics import difference_interval, macro_f1, mean_interval, statistic_interval
from tegakari.schemas.analysis import Interval
from tegakari.schemas.study import Difference, RunStudy
from tegakari.store import Run
from tegakari.store.queries.runs import evaluation_documents


def differences(runs: Sequence[Run], made: Sequence[RunStudy], seed: int) -> list[Difference]:
    """Of the second run to the first. Documents and labels are paired where both runs have them."""
    rows = _shared_rows(runs)
    found = [_macro_f1(runs, rows, seed)] if len(rows[0]) else []
    variety = [np.asarray(run.blocks.features[f"variety_{run.manifest.pooling}"], np.float64) for run in runs]
    found.append(_unpaired("mean label variety", variety, "features of each run for itself, over its own labels", seed))
    values = [sparsity_values(run) for run in runs]
    if len(rows[0]):
        active = [each.active[:, mine].mean(0) for each, mine in zip(values, rows, strict=True)]
        found.append(_paired("active features of a document", active, "documents of both runs", seed))
        ratio = np.array([each.ratio[:, mine].mean(0) for each, mine in zip(values, rows, strict=True)])
        found.append(_paired("top-20 ratio", ratio[:, ~np.isnan(ratio).any(0)], "documents of both runs", seed))
    deltas = [[row.delta for row in each.knockouts] for each in made]
    found.append(_paired("points lost in a knockout", deltas, "labels of both runs", seed))
    cues = [{each.label: each for each in one.cues} for one in made]
    both = [label for label in cues[0] if label in cues[1]]
    if both:
        shares = [[one[label].top_token_share.value for label in both] for one in cues]
        found.append(_paired("top token share of a label", shares, "labels of both runs", seed))
        unique = [[one[label].unique_tokens.value for label in both] for one in cues]
        found.append(_paired("unique tokens of a label", unique, "labels of both runs", seed))
    return [*found, *_variants(made, seed)]


def same_tokens(runs: Sequence[Run]) -> bool:
    """Whether runs read the documents that they share in the same tokens."""
    if len(runs) < 2:
        return True
    known = [run.blocks.documents for run in runs]
    for row in zip(*_shared_rows(runs), strict=True):
        a, b = (
            each.token_ids[each.first_token[number] : each.first_token[number + 1]]
            for each, number in zip(known, row, strict=True)
        )
        if not np.array_equal(a, b):
            return False
    return True


def _variants(made: Sequence[RunStudy], seed: int) -> list[Difference]:
    """Survival over the concepts that have one in both runs."""
    found = []
    for a, b in zip(*(one.variants.rows for one in made), strict=True):
        if a.kind == "unrelated":
            continue
        both = [(x, y) for x, y in zip(a.of_concepts, b.of_concepts, strict=True) if x is not None and y is not None]
        if both:
            figure = f"survival of written variants, k = {a.k}, {a.kind}"
            found.append(_paired(figure, np.array(both).T, "concepts", seed))
    return found


def _shared_rows(runs: Sequence[Run]) -> list[np.ndarray]:
    """Numbers of the evaluation documents that both runs have, of labels that both have, in the order of ids."""
    labels = set(runs[0].labels) & set(runs[1].labels)
    places = []
    for run in runs:
        known = run.blocks.documents
        numbers = evaluation_documents(run)
        ids = known.id.take(pa.array(numbers)).to_pylist()
        own = [run.labels[label] for label in np.asarray(known.label_id)[numbers].tolist()]
        every = zip(ids, numbers.tolist(), own, strict=True)
        places.append({id_: number for id_, number, label in every if label in labels})
    shared = sorted(places[0].keys() & places[1].keys())
    return [np.array([place[id_] for id_ in shared], np.int64) for place in places]


def _macro_f1(runs: Sequence[Run], rows: Sequence[np.ndarray], seed: int) -> Difference:
    known = [run.blocks.documents for run in runs]
    pairs = [
        (np.asarray(documents.label_id)[mine], np.asarray(documents.predicted_id)[mine], len(run.labels))
        for run, documents, mine in zip(runs, known, rows, strict=True)
    ]

    def scores(drawn: np.ndarray) -> list[float]:
        return [macro_f1(own[drawn], predicted[drawn], labels) for own, predicted, labels in pairs]

    def difference(drawn: np.ndarray) -> float:
        a, b = scores(drawn)
        return b - a

    n = len(rows[0])
    a, b = scores(np.arange(n))
    low, high = statistic_interval(difference, n, seed)
    interval = Interval(value=b - a, low=low, high=high)
    return Difference(figure="macro-F1", a=a, b=b, difference=interval, over="documents of both runs", n=n)


def _paired(figure: str, values: Sequence[Sequence[float]] | np.ndarray, over: str, seed: int) -> Difference:
    a, b = (np.asarray(each, np.float64) for each in values)
    low, high = mean_interval(b - a, seed)
    interval = Interval(value=float((b - a).mean()), low=low, high=high)
    return Difference(figure=figure, a=float(a.mean()), b=float(b.mean()), difference=interval, over=over, n=len(a))


def _unpaired(figure: str, values: Sequence[np.ndarray], over: str, seed: int) -> Difference:
    a, b = values
    low, high = difference_interval(a, b, seed)
    interval = Interval(value=float(b.mean() - a.mean()), low=low, high=high)
    return Difference(
        figure=figure, a=float(a.mean()), b=float(b.mean()), difference=interval, over=over, n=min(len(a), len(b))
    )
