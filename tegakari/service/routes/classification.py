"""Route of the classifier's scores."""

from __future__ import annotations

from tegakari.analyses.classification import with_baseline
from tegakari.schemas.study import ClassificationResult
from tegakari.service.engine.run_scores import scores_of_run
from tegakari.service.http.operations import read
from tegakari.service.http.parameters import OpenRun


# The baseline is in the report beside the classifier, which can be written again.
@read("/classification", "getClassification", "Scores of the classifier", changes=True)
def get_classification(run: OpenRun) -> ClassificationResult:
    """Macro-F1 and accuracy on the evaluation documents, with intervals, beside the baseline."""
    return with_baseline(run, scores_of_run(run))


RUN_HANDLERS = (get_classification,)
