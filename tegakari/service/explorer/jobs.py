"""Page of the knockouts that the service computes or has computed."""

from __future__ import annotations

from typing import Any

from litestar import Request, Response
from litestar.di import NamedDependency

from tegakari.service.engine.knockout_list import list_knockouts
from tegakari.service.explorer.page import page, render
from tegakari.service.http.parameters import Cursor
from tegakari.store import Store
from tegakari.store.disk.job_files import JobFiles

JOBS_SHOWN = 50


@page("/jobs", changes=True)
def jobs_page(store: NamedDependency[Store], request: Request[Any, Any, Any], cursor: Cursor = None) -> Response[str]:
    """Knockouts by creation, newest first."""
    jobs = list_knockouts(store.directory, {}, run=None, state=None, limit=JOBS_SHOWN, cursor=cursor)
    return render(request, "jobs", jobs=jobs, problems=_problems(store), names=frozenset(store.names()))


def _problems(store: Store) -> dict[str, str]:
    """Why jobs failed, by id."""
    return {job.id: job.problem.detail for job in JobFiles(store.directory).newest(JOBS_SHOWN) if job.problem}


HANDLERS = (jobs_page,)
