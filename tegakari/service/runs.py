"""The routes below /v1: each a question of `tegakari.store.queries`."""

from __future__ import annotations

from typing import Any

import structlog
from litestar import Request, Router, get
from litestar.datastructures import CacheControlHeader
from litestar.di import NamedDependency, Provide

from tegakari.schemas.api import (
    FeatureDetail,
    LabelDetail,
    LabelFeature,
    LabelRow,
    LayerSpecificity,
    Page,
    RunSummary,
)
from tegakari.schemas.errors import NotFoundError, StoreError
from tegakari.service.caching import RunOfRequest, run_of_request
from tegakari.service.parameters import (
    Cursor,
    FeatureNumber,
    LabelName,
    LayerNumber,
    LeastD,
    OnlyLayer,
    PageSize,
    PoolingName,
    RunName,
    TokenCount,
    VarietyName,
    refuse_unknown_parameters,
)
from tegakari.service.paths import DecodedParameters
from tegakari.service.problems import documented
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
            found.append(queries.summary(store.run(name)))
        except NotFoundError:  # deleted since it was listed
            continue
        except StoreError as error:  # one damaged run must not hide the others
            log.warning("run left out", run=name, reason=str(error))
    return Page(found)


@get("/", operation_id="getRun", summary="A run", responses=documented(400, 404, 500), sync_to_thread=True)
def get_run(opened: NamedDependency[Run]) -> RunSummary:
    """What the run was made from, and how its classifier does."""
    return queries.summary(opened)


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
    "/labels/{label:str}/features",
    operation_id="listLabelFeatures",
    summary="Features of a label",
    responses=documented(400, 404, 500),
    sync_to_thread=True,
)
def list_label_features(
    opened: NamedDependency[Run],
    label: LabelName,
    layer: OnlyLayer = None,
    pooling: PoolingName = None,
    min_d: LeastD = None,
    variety: VarietyName = None,
    limit: PageSize = 50,
    cursor: Cursor = None,
) -> Page[LabelFeature]:
    """Features by Cohen's d for the label, largest first; ties by layer, then feature."""
    return queries.features_of_label(
        opened,
        label,
        layer=layer,
        pooling=queries.check_pooling(opened, pooling),
        min_d=min_d,
        variety=queries.parse_variety(variety) if variety is not None else None,
        limit=limit,
        cursor=cursor,
    )


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


@get(
    "/layers/{layer:str}/features/{feature:str}",
    operation_id="getFeature",
    summary="A feature",
    responses=documented(400, 404, 500),
    sync_to_thread=True,
)
def get_feature(
    opened: NamedDependency[Run],
    layer: LayerNumber,
    feature: FeatureNumber,
    pooling: PoolingName = None,
    tokens: TokenCount = None,
) -> FeatureDetail:
    """One feature: its statistics, its labels by Cohen's d, and its strongest positions in context."""
    return queries.feature(opened, layer, feature, pooling=queries.check_pooling(opened, pooling), tokens=tokens)


def _opened(request: Request[Any, Any, Any], run: RunName) -> Run:
    # The name is taken to have it described; the run itself is open already.
    return run_of_request(request.scope)


_OF_A_RUN = Router(
    "/runs/{run:str}",
    route_handlers=[get_run, list_labels, get_label, list_label_features, get_specificity, get_feature],
    middleware=[DecodedParameters(), RunOfRequest()],
    dependencies={"opened": Provide(_opened, sync_to_thread=False)},
)
ROUTER = Router("/v1", route_handlers=[list_runs, _OF_A_RUN], before_request=refuse_unknown_parameters)
