"""Route of the specificity of a run's layers."""

from __future__ import annotations

from tegakari.schemas.api import LayerSpecificity, Page
from tegakari.service.http.operations import read
from tegakari.service.http.parameters import OpenRun, PoolingName, SelectedAnalysis
from tegakari.store import queries


@read("/specificity", "getSpecificity", "Specificity of the layers", changes=True)
def get_specificity(
    run: OpenRun, pooling: PoolingName = None, analysis: SelectedAnalysis = None
) -> Page[LayerSpecificity]:
    """Per layer: weak, label-specific and shared features, and features with high d at several cut-offs.

    `chance` is what permuted labels give, by the stored analysis of `tegakari specificity` with the default settings,
    or by the one that `analysis` selects.
    """
    return Page(queries.specificity(run, pooling=pooling, analysis=analysis))


RUN_HANDLERS = (get_specificity,)
