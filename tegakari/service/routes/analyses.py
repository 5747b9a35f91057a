"""Routes of stored analyses: list them, read one, delete one."""

from __future__ import annotations

from typing import Annotated

from litestar import delete
from litestar.di import NamedDependency
from litestar.params import PathParameter

from tegakari.schemas.analysis import AnalysisDetail, AnalysisRow
from tegakari.schemas.analysis_kinds import ANALYSIS_KINDS
from tegakari.schemas.api import Page
from tegakari.service.http.operations import READ_PROBLEMS, read
from tegakari.service.http.parameters import Cursor, OpenRun, PageSize, optional
from tegakari.service.http.problems import documented
from tegakari.store import Store, queries
from tegakari.store.results import analysis_with_id, delete_analysis

ANALYSIS_PATH = "/analyses/{analysis:str}"

AnalysisId = Annotated[str, PathParameter(description="id of the analysis")]
KindFilter = Annotated[
    str | None,
    optional("only analyses of this kind", type="string", enum=[kind.name for kind in ANALYSIS_KINDS]),
]


@read("/analyses", "listAnalyses", "Stored analyses", changes=True)
def list_analyses(
    store: NamedDependency[Store], kind: KindFilter = None, limit: PageSize = 100, cursor: Cursor = None
) -> Page[AnalysisRow]:
    """Stored analyses of the published runs, newest first."""
    return queries.analyses(store, kind=kind, limit=limit, cursor=cursor)


@read("/analyses", "listRunAnalyses", "Stored analyses of a run", changes=True)
def list_run_analyses(
    run: OpenRun,
    store: NamedDependency[Store],
    kind: KindFilter = None,
    limit: PageSize = 100,
    cursor: Cursor = None,
) -> Page[AnalysisRow]:
    """Stored analyses that are computed from the run, alone or with others, newest first."""
    return queries.analyses(store, run=run, kind=kind, limit=limit, cursor=cursor)


@read(ANALYSIS_PATH, "getAnalysis", "A stored analysis", changes=True)
def get_analysis(store: NamedDependency[Store], analysis: AnalysisId) -> AnalysisDetail:
    """A stored analysis with its settings and its result, whose fields are those of its kind."""
    return queries.analysis(store, analysis)


@delete(
    ANALYSIS_PATH,
    operation_id="deleteAnalysis",
    summary="Delete a stored analysis",
    responses=documented(*READ_PROBLEMS),
    sync_to_thread=True,
    opt={"scope": "admin"},
)
def remove_analysis(store: NamedDependency[Store], analysis: AnalysisId) -> None:
    """Delete the result of an analysis. The same request computes it again. Needs a key of scope `admin`."""
    delete_analysis(store.directory, analysis_with_id(store.directory, analysis))


HANDLERS = (list_analyses, get_analysis, remove_analysis)
RUN_HANDLERS = (list_run_analyses,)
