"""Classification of a run's evaluation documents: macro-F1 and accuracy (the study, Table 1)."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np

from tegakari.analyses.statistics import interval_of_macro_f1, interval_of_share, macro_f1
from tegakari.schemas.classifier import REPORT_FILE, ClassifierReport
from tegakari.schemas.decoding import decode_json
from tegakari.schemas.study import ClassificationResult
from tegakari.store import Run
from tegakari.store.disk.contents import read_bounded
from tegakari.store.queries.runs import evaluation_documents

ROUNDING = 0.01
"""Macro-F1 of the run and of the classifier's report differ by less: batches of other sizes round differently."""

MAX_REPORT = 64 * 2**20
"""Maximum size of a report in bytes."""


def classification(run: Run) -> ClassificationResult:
    """Macro-F1 and accuracy with intervals over documents, and macro-F1 of the baseline.

    Args:
        run: published.

    Raises:
        NotFoundError: the run has no evaluation documents.
    """
    return with_baseline(run, classification_without_baseline(run))


def with_baseline(run: Run, result: ClassificationResult) -> ClassificationResult:
    """The scores of a run beside the baseline in the report of its classifier, which may change while the run does not.

    Args:
        run: published.
        result: from `classification_without_baseline`.
    """
    return msgspec.structs.replace(result, baseline_macro_f1=_baseline(run, result.documents))


def classification_without_baseline(run: Run) -> ClassificationResult:
    """Macro-F1 and accuracy with intervals over documents, from the run alone.

    Raises:
        NotFoundError: the run has no evaluation documents.
    """
    numbers, documents = evaluation_documents(run), run.blocks.documents
    expected, predicted = np.asarray(documents.label_id)[numbers], np.asarray(documents.predicted_id)[numbers]
    return ClassificationResult(
        run=run.name,
        documents=len(numbers),
        labels=len(np.unique(expected)),
        macro_f1=interval_of_macro_f1(expected, predicted, len(run.labels)),
        accuracy=interval_of_share(expected == predicted),
        baseline_macro_f1=None,
    )


def majority_macro_f1(run: Run) -> float:
    """Macro-F1 on the evaluation documents of a classifier that gives all of them the most frequent label.

    Raises:
        NotFoundError: the run has no evaluation documents.
    """
    expected = np.asarray(run.blocks.documents.label_id)[evaluation_documents(run)]
    labels = len(run.labels)
    most_frequent = np.bincount(expected, minlength=labels).argmax()
    return macro_f1(expected, np.full_like(expected, most_frequent), labels)


def _baseline(run: Run, documents: int) -> float | None:
    """Macro-F1 of the baseline in the report beside the classifier; None if the report is of other documents."""
    try:
        content = read_bounded(Path(run.manifest.locations.classifier) / REPORT_FILE, MAX_REPORT)
        report = decode_json(content, ClassifierReport)
    except (OSError, msgspec.DecodeError):
        return None
    same_scores = abs(report.classifier.macro_f1 - run.manifest.scores.macro_f1) < ROUNDING
    return report.baseline.macro_f1 if same_scores and report.eval_documents == documents else None
