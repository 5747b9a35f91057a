"""Routes of runs."""

from __future__ import annotations

import structlog
from litestar.di import NamedDependency

from tegakari.schemas.api import Page, RunSummary
from tegakari.schemas.errors import NotFoundError, StoreError
from tegakari.service.http.operations import read
from tegakari.service.http.parameters import OpenRun
from tegakari.store import Store, queries

log = structlog.get_logger()


@read("/runs", "listRuns", "Published runs", problems=(400,), changes=True)
def list_runs(store: NamedDependency[Store]) -> Page[RunSummary]:
    """All published runs by name, those published a moment ago and those that are only in the bucket included."""
    summaries = []
    for name in store.names():
        try:
            summaries.append(queries.run_summary(store.run(name)))
        except NotFoundError:  # deleted since it was listed
            continue
        except StoreError as error:  # one damaged run must not hide the others
            log.warning("run left out", run=name, reason=str(error))
    summaries += map(queries.remote_summary, store.remote())
    return Page(sorted(summaries, key=lambda summary: summary.run))


@read("/", "getRun", "A run")
def get_run(run: OpenRun) -> RunSummary:
    """Inputs of the run, and the scores of its classifier."""
    return queries.run_summary(run)


HANDLERS = (list_runs,)
RUN_HANDLERS = (get_run,)
