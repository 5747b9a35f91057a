"""Route of the sparsity of a run's layers."""

from __future__ import annotations

from tegakari.analyses.sparsity import sparsity
from tegakari.schemas.study import SparsityResult
from tegakari.service.engine.result_cache import cached_per_run
from tegakari.service.http.operations import read
from tegakari.service.http.parameters import OpenRun


@read("/sparsity", "getSparsity", "Active features")
def get_sparsity(run: OpenRun) -> SparsityResult:
    """Active features per document and the share of the 20 strongest, per layer."""
    return sparsity_of_run(run)


sparsity_of_run = cached_per_run(sparsity)

RUN_HANDLERS = (get_sparsity,)
