"""Page of the knockouts that the service computes or has computed."""

from __future__ import annotations

from typing import Any

from litestar import Request, Response
from litestar.di import NamedDependency

from tegakari.service.explorer.page import page, render
from tegakari.store import Store
from tegakari.store.disk.job_files import JobFiles

JOBS_SHOWN = 100


@page("/jobs", changes=True)
def jobs_page(store: NamedDependency[Store], request: Request[Any, Any, Any]) -> Response[str]:
    """Jobs by creation, newest first."""
    jobs = JobFiles(store.directory).newest(JOBS_SHOWN)
    return render(request, "jobs", jobs=jobs, names=frozenset(store.names()))


HANDLERS = (jobs_page,)
