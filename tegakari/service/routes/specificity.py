"""Route of the specificity of a run's layers."""

from __future__ import annotations

from tegakari.schemas.api import LayerSpecificity, Page
from tegakari.service.http.operations import read
from tegakari.service.http.parameters import OpenRun, PoolingName
from tegakari.store import queries


@read("/specificity", "getSpecificity", "Specificity of the layers", changes=True)
def get_specificity(run: OpenRun, pooling: PoolingName = None) -> Page[LayerSpecificity]:
    """Per layer: weak, label-specific and shared features, and features with high d at several cut-offs.

    `chance` is what permuted labels give, from the analysis that `tegakari specificity` stored last.
    """
    return Page(queries.specificity(run, pooling=pooling))


RUN_HANDLERS = (get_specificity,)
