"""How a run's classifier does on its evaluation documents (the study, Table 1)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np

from tegakari.analyses.statistics import macro_f1, statistic_interval
from tegakari.schemas.analysis import Interval
from tegakari.schemas.classifier import REPORT_FILE, ClassifierReport
from tegakari.schemas.study import ClassificationResult
from tegakari.store import Run
from tegakari.store.queries.runs import evaluation_documents

ROUNDING = 0.01
"""How far macro-F1 may be from that of the report: other batches round otherwise."""


def classification(run: Run, *, seed: int = 0) -> ClassificationResult:
    """Macro-F1 and accuracy, with intervals over documents, beside the baseline.

    Raises:
        NotFoundError: the run has no evaluation documents.
    """
    numbers, known = evaluation_documents(run), run.blocks.documents
    own, predicted = np.asarray(known.label_id)[numbers], np.asarray(known.predicted_id)[numbers]
    labels = len(run.labels)

    def score(rows: np.ndarray) -> float:
        return macro_f1(own[rows], predicted[rows], labels)

    def accuracy(rows: np.ndarray) -> float:
        return float((own[rows] == predicted[rows]).mean())

    return ClassificationResult(
        run=run.name,
        documents=len(numbers),
        labels=len(np.unique(own)),
        macro_f1=_interval(score, len(numbers), seed),
        accuracy=_interval(accuracy, len(numbers), seed),
        baseline_macro_f1=_baseline(run, len(numbers)),
    )


def _interval(statistic: Callable[[np.ndarray], float], n: int, seed: int) -> Interval:
    low, high = statistic_interval(statistic, n, seed)
    return Interval(value=statistic(np.arange(n)), low=low, high=high)


def _baseline(run: Run, documents: int) -> float | None:
    """What the report beside the classifier says, if it speaks of as many documents and of the run's own scores."""
    try:
        content = (Path(run.manifest.locations.classifier) / REPORT_FILE).read_bytes()
        report = msgspec.json.decode(content, type=ClassifierReport)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return None
    same = abs(report.classifier.macro_f1 - run.manifest.scores.macro_f1) < ROUNDING
    return report.baseline.macro_f1 if same and report.eval_documents == documents else None
