"""Route of the classifier's scores."""

from __future__ import annotations

from tegakari.analyses.classification import classification_without_baseline, with_baseline
from tegakari.schemas.study import ClassificationResult
from tegakari.service.engine.result_cache import cached_per_run
from tegakari.service.http.operations import read
from tegakari.service.http.parameters import OpenRun


# The baseline is in the report beside the classifier, which can be written again.
@read("/classification", "getClassification", "Scores of the classifier", changes=True)
def get_classification(run: OpenRun) -> ClassificationResult:
    """Macro-F1 and accuracy on the evaluation documents, with intervals, beside the baseline."""
    return with_baseline(run, _scores(run))


_scores = cached_per_run(classification_without_baseline)

RUN_HANDLERS = (get_classification,)
