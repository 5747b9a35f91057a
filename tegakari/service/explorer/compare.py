"""Page that compares two runs: their labels, and the figures of their stored study."""

from __future__ import annotations

from typing import Annotated, Any, NamedTuple

from litestar import Request, Response
from litestar.di import NamedDependency
from litestar.params import QueryParameter

from tegakari.schemas.api import LabelRow
from tegakari.schemas.errors import NotFoundError, QueryError
from tegakari.schemas.study import Comparison
from tegakari.service.explorer.page import page, render
from tegakari.service.http.etags import open_run
from tegakari.store import Run, Store, queries

ComparedRuns = Annotated[list[str], QueryParameter(name="run", description="name of a run; given twice")]


class LabelPair(NamedTuple):
    """A label that both runs have."""

    a: LabelRow
    b: LabelRow


@page("/compare", changes=True)
def compare_page(store: NamedDependency[Store], request: Request[Any, Any, Any], run: ComparedRuns) -> Response[str]:
    """Two runs side by side."""
    if len(run) != 2 or run[0] == run[1]:
        raise QueryError(
            f"{len(set(run))} different runs are named, not 2", field="run", fix="name two runs: /compare?run=a&run=b"
        )
    runs = [open_run(store, name) for name in run]
    rows = [{row.label: row for row in queries.labels(one)} for one in runs]
    return render(
        request,
        "compare",
        runs=[queries.run_summary(one) for one in runs],
        labels=[LabelPair(row, rows[1][label]) for label, row in rows[0].items() if label in rows[1]],
        only=[
            [label for label in rows[0] if label not in rows[1]],
            [label for label in rows[1] if label not in rows[0]],
        ],
        study=_figures_of(runs),
    )


def _figures_of(runs: list[Run]) -> Comparison | None:
    """Figures of the stored study of both runs with the default settings; None: there is none."""
    try:
        return queries.compare(*runs)
    except NotFoundError:
        return None


HANDLERS = (compare_page,)
