"""Route of written variants."""

from __future__ import annotations

from litestar.di import NamedDependency

from tegakari.schemas.analysis import AnalysisKind
from tegakari.schemas.variants import VariantsResult
from tegakari.service.http.operations import read
from tegakari.service.http.parameters import OpenRun
from tegakari.service.routes.results import latest_result
from tegakari.store import Store


@read("/variants", "getVariants", "Written variants", changes=True)
def get_variants(run: OpenRun, store: NamedDependency[Store]) -> VariantsResult:
    """How much of a written form's features remains without those of another form, as measured last."""
    return latest_result(store, AnalysisKind.VARIANTS, run, VariantsResult)


RUN_HANDLERS = (get_variants,)
