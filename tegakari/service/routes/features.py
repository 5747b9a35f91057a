"""The routes about features: of a run, of a label, and one of them."""

from __future__ import annotations

from functools import partial

from litestar import get
from litestar.concurrency import sync_to_thread
from litestar.di import NamedDependency

from tegakari.schemas.api import (
    ActivationHistogram,
    FeatureDetail,
    FeatureLabel,
    FeatureRow,
    LabelFeature,
    Page,
    TopDocument,
    TopToken,
)
from tegakari.service.engine.block_reads import read_blocks
from tegakari.service.http.parameters import (
    Cursor,
    DocumentCount,
    FeatureNumber,
    FeatureOrder,
    LabelName,
    LargestDensity,
    LayerNumber,
    LeastD,
    LeastDensity,
    OnlyLayer,
    OnlyToken,
    PageSize,
    PoolingName,
    TokenCount,
    VarietyName,
)
from tegakari.service.http.problems import documented
from tegakari.store import Run, queries

FEATURE = "/layers/{layer:str}/features/{feature:str}"


@get(
    "/labels/{label:str}/features",
    operation_id="listLabelFeatures",
    summary="Features of a label",
    responses=documented(400, 404, 500),
)
async def list_label_features(
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
    chosen = queries.check_pooling(opened, pooling)
    question = partial(
        queries.label_features,
        opened,
        label,
        layer=layer,
        pooling=chosen,
        min_d=min_d,
        variety=queries.parse_variety(variety) if variety is not None else None,
        limit=limit,
        cursor=cursor,
    )
    if chosen == opened.manifest.pooling and variety is None:
        return await read_blocks(opened, question)
    return await sync_to_thread(question)  # another pooling is sorted now, and a filter may pass over everything


@get(
    "/features",
    operation_id="listFeatures",
    summary="Features of a run",
    responses=documented(400, 404, 500),
    sync_to_thread=True,
)
def list_features(
    opened: NamedDependency[Run],
    layer: OnlyLayer = None,
    token: OnlyToken = None,
    variety: VarietyName = None,
    min_density: LeastDensity = None,
    max_density: LargestDensity = None,
    min_d: LeastD = None,
    order: FeatureOrder = "feature",
    limit: PageSize = 50,
    cursor: Cursor = None,
) -> Page[FeatureRow]:
    """Features that pass every filter given. `min_d` and order `d` look at each feature's label of largest d."""
    return queries.features(
        opened,
        layer=layer,
        token=token,
        variety=queries.parse_variety(variety) if variety is not None else None,
        min_density=min_density,
        max_density=max_density,
        min_d=min_d,
        order=order,
        limit=limit,
        cursor=cursor,
    )


@get(FEATURE, operation_id="getFeature", summary="A feature", responses=documented(400, 404, 500))
async def get_feature(
    opened: NamedDependency[Run],
    layer: LayerNumber,
    feature: FeatureNumber,
    pooling: PoolingName = None,
    tokens: TokenCount = None,
) -> FeatureDetail:
    """One feature: its statistics, its labels by Cohen's d, and its strongest positions in context."""
    chosen = queries.check_pooling(opened, pooling)
    return await read_blocks(opened, partial(queries.feature, opened, layer, feature, pooling=chosen, tokens=tokens))


@get(
    f"{FEATURE}/labels",
    operation_id="listFeatureLabels",
    summary="Labels of a feature",
    responses=documented(400, 404, 500),
)
async def list_feature_labels(
    opened: NamedDependency[Run],
    layer: LayerNumber,
    feature: FeatureNumber,
    pooling: PoolingName = None,
    limit: PageSize = 50,
    cursor: Cursor = None,
) -> Page[FeatureLabel]:
    """Labels by Cohen's d for the feature, largest first; those for which it is not defined last."""
    chosen = queries.check_pooling(opened, pooling)
    return await read_blocks(
        opened,
        partial(queries.feature_labels, opened, layer, feature, pooling=chosen, limit=limit, cursor=cursor),
    )


@get(
    f"{FEATURE}/tokens",
    operation_id="listFeatureTokens",
    summary="Strongest positions of a feature",
    responses=documented(400, 404, 500),
)
async def list_feature_tokens(
    opened: NamedDependency[Run],
    layer: LayerNumber,
    feature: FeatureNumber,
    limit: PageSize = 50,
    cursor: Cursor = None,
) -> Page[TopToken]:
    """The strongest positions of the corpus, as many as the run keeps, each with the text around it."""
    return await read_blocks(
        opened, partial(queries.feature_tokens, opened, layer, feature, limit=limit, cursor=cursor)
    )


@get(
    f"{FEATURE}/documents",
    operation_id="listFeatureDocuments",
    summary="Strongest documents of a feature",
    responses=documented(400, 404, 500),
)
async def list_feature_documents(
    opened: NamedDependency[Run], layer: LayerNumber, feature: FeatureNumber, limit: DocumentCount = 20
) -> Page[TopDocument]:
    """The documents in which the feature is strongest, by the run's pooling; ties by document."""
    found = await read_blocks(opened, partial(queries.feature_documents, opened, layer, feature, limit=limit))
    return Page(found)


@get(
    f"{FEATURE}/histogram",
    operation_id="getFeatureHistogram",
    summary="Activations of a feature",
    responses=documented(400, 404, 500),
    sync_to_thread=True,
)
def get_feature_histogram(
    opened: NamedDependency[Run], layer: LayerNumber, feature: FeatureNumber
) -> ActivationHistogram:
    """How the feature's pooled activations are spread over the documents in which it is active."""
    return queries.feature_histogram(opened, layer, feature)


HANDLERS = (
    list_features,
    list_label_features,
    get_feature,
    list_feature_labels,
    list_feature_tokens,
    list_feature_documents,
    get_feature_histogram,
)
