"""The routes about runs and their labels."""

from __future__ import annotations

import structlog
from litestar import get
from litestar.datastructures import CacheControlHeader
from litestar.di import NamedDependency

from tegakari.schemas.api import LabelDetail, LabelRow, LayerSpecificity, Page, RunSummary
from tegakari.schemas.errors import NotFoundError, StoreError
from tegakari.service.http.parameters import LabelName, PoolingName
from tegakari.service.http.problems import documented
from tegakari.store import Run, Store, queries

log = structlog.get_logger()


@get(
    "/runs",
    operation_id="listRuns",
    summary="Published runs",
    responses=documented(400),
    cache_control=CacheControlHeader(no_cache=True),
    sync_to_thread=True,
)
def list_runs(store: NamedDependency[Store]) -> Page[RunSummary]:
    """All published runs by name, those published a moment ago included."""
    found = []
    for name in store.names():
        try:
            found.append(queries.run_summary(store.run(name)))
        except NotFoundError:  # deleted since it was listed
            continue
        except StoreError as error:  # one damaged run must not hide the others
            log.warning("run left out", run=name, reason=str(error))
    return Page(found)


@get("/", operation_id="getRun", summary="A run", responses=documented(400, 404, 500), sync_to_thread=True)
def get_run(opened: NamedDependency[Run]) -> RunSummary:
    """What the run was made from, and how its classifier does."""
    return queries.run_summary(opened)


@get(
    "/labels",
    operation_id="listLabels",
    summary="Labels of a run",
    responses=documented(400, 404, 500),
    sync_to_thread=True,
)
def list_labels(opened: NamedDependency[Run]) -> Page[LabelRow]:
    """All labels in class order, with the classifier's scores and how many features carry each."""
    return Page(queries.labels(opened))


@get(
    "/labels/{label:str}",
    operation_id="getLabel",
    summary="A label",
    responses=documented(400, 404, 500),
    sync_to_thread=True,
)
def get_label(opened: NamedDependency[Run], label: LabelName) -> LabelDetail:
    """One label, and which labels its documents are predicted as."""
    return queries.label(opened, label)


@get(
    "/specificity",
    operation_id="getSpecificity",
    summary="Specificity of the layers",
    responses=documented(400, 404, 500),
    sync_to_thread=True,
)
def get_specificity(opened: NamedDependency[Run], pooling: PoolingName = None) -> Page[LayerSpecificity]:
    """Layer by layer: weak, label-specific and shared features, and features with high d at several cut-offs."""
    return Page(queries.specificity(opened, pooling=queries.check_pooling(opened, pooling)))


HANDLERS = (get_run, list_labels, get_label, get_specificity)
