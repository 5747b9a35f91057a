"""Page of a knockout that is stored: recall before and after beside both controls, and what became of the documents."""

from __future__ import annotations

from collections import defaultdict
from typing import Annotated, Any, NamedTuple

from litestar import Request, Response
from litestar.di import NamedDependency
from litestar.params import PathParameter

from tegakari.analyses.statistics import mean_share_interval
from tegakari.schemas.analysis import Interval
from tegakari.schemas.analysis_kinds import KNOCKOUT_ANALYSIS
from tegakari.schemas.errors import NotFoundError
from tegakari.schemas.knockout import DocumentOutcome, KnockoutResult
from tegakari.service.explorer.page import page, render
from tegakari.store import Store
from tegakari.store.results import analysis_by_key

KnockoutId = Annotated[str, PathParameter(description="id of the knockout")]


LOST_SHOWN = 5


class Recall(NamedTuple):
    """Recall with some features ablated."""

    name: str
    """key of its text"""
    recall: Interval
    draws: int
    """sets of features that it is the mean of"""


@page("/knockouts/{knockout:str}", changes=True)
def knockout_page(
    store: NamedDependency[Store], knockout: KnockoutId, request: Request[Any, Any, Any]
) -> Response[str]:
    """A knockout with its result."""
    analysis = analysis_by_key(store.directory, KNOCKOUT_ANALYSIS, knockout)
    if analysis is None:
        raise NotFoundError(
            f"no result of knockout {knockout!r} is stored", field="knockout", fix="the page of jobs has the states"
        )
    result = analysis.result(KNOCKOUT_ANALYSIS)
    return render(
        request,
        "knockout",
        id=knockout,
        result=result,
        recalls=_recalls(result),
        label=result.settings.label or result.settings.documents_of,
        lost=_lost_documents(result),
        published=result.run in store.names(),
    )


def _recalls(result: KnockoutResult) -> list[Recall]:
    """Recalls with intervals: before, with the reconstruction alone, after, and of the controls."""
    sets = {
        "recall_before": [result.recall_before],
        "recall_reconstructed": [] if result.recall_reconstructed is None else [result.recall_reconstructed],
        "recall_after": [result.recall_after],
        "recall_control": result.control.recalls if result.control else [],
        "recall_density_control": result.density_control.recalls if result.density_control else [],
    }
    return [
        Recall(name, mean_share_interval(recalls, result.documents), len(recalls))
        for name, recalls in sets.items()
        if recalls and result.documents
    ]


def _lost_documents(result: KnockoutResult) -> dict[str, list[DocumentOutcome]]:
    """By the label that they are predicted as: documents whose prediction the ablation has changed to a wrong one."""
    lost: dict[str, list[DocumentOutcome]] = defaultdict(list)
    if result.settings.texts is None:
        for outcome in result.outcomes or ():
            if outcome.before == outcome.expected != outcome.after and len(lost[outcome.after]) < LOST_SHOWN:
                lost[outcome.after].append(outcome)
    return lost


HANDLERS = (knockout_page,)
