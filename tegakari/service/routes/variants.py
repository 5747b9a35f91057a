"""Route of written variants."""

from __future__ import annotations

from litestar.di import NamedDependency

from tegakari.schemas.analysis_kinds import VARIANTS_ANALYSIS
from tegakari.schemas.variants import VariantsResult
from tegakari.service.http.operations import read
from tegakari.service.http.parameters import OpenRun, SelectedAnalysis
from tegakari.store import Store
from tegakari.store.results import selected_result


@read("/variants", "getVariants", "Written variants", changes=True)
def get_variants(run: OpenRun, store: NamedDependency[Store], analysis: SelectedAnalysis = None) -> VariantsResult:
    """How much of a written form's features remains without those of another form.

    Without `analysis`, by the package's own concepts and the default settings.
    """
    return selected_result(store.directory, VARIANTS_ANALYSIS, [run.manifest], analysis)


RUN_HANDLERS = (get_variants,)
