"""Route of the classifier's scores."""

from __future__ import annotations

from tegakari.analyses.classification import classification
from tegakari.schemas.study import ClassificationResult
from tegakari.service.engine.result_cache import cached_per_run
from tegakari.service.http.operations import read
from tegakari.service.http.parameters import OpenRun


@read("/classification", "getClassification", "Scores of the classifier")
def get_classification(run: OpenRun) -> ClassificationResult:
    """Macro-F1 and accuracy on the evaluation documents, with intervals, beside the baseline."""
    return _classification(run)


_classification = cached_per_run(classification)

RUN_HANDLERS = (get_classification,)
