"""Route of written variants."""

from __future__ import annotations

from litestar.di import NamedDependency

from tegakari.schemas.analysis_kinds import VARIANTS_ANALYSIS
from tegakari.schemas.variants import VariantsResult
from tegakari.service.http.operations import read
from tegakari.service.http.parameters import OpenRun
from tegakari.store import Store
from tegakari.store.results import latest_result


@read("/variants", "getVariants", "Written variants", changes=True)
def get_variants(run: OpenRun, store: NamedDependency[Store]) -> VariantsResult:
    """How much of a written form's features remains without those of another form, as measured last."""
    return latest_result(store.directory, VARIANTS_ANALYSIS, run.manifest)


RUN_HANDLERS = (get_variants,)
