"""Routes of features: the list, one feature, its labels, tokens, documents, histogram and neighbours."""

from __future__ import annotations

from functools import partial
from typing import Annotated

from litestar.concurrency import sync_to_thread
from litestar.di import NamedDependency

from tegakari.schemas.api import (
    ActivationHistogram,
    FeatureContext,
    FeatureDetail,
    FeatureLabel,
    FeatureNeighbour,
    FeatureRow,
    Page,
    TopDocument,
    TopToken,
)
from tegakari.schemas.config import NAME_PATTERN
from tegakari.schemas.filters import parse_variety
from tegakari.service.engine.block_reads import read_blocks
from tegakari.service.http.etags import open_run
from tegakari.service.http.operations import read
from tegakari.service.http.parameters import (
    FEATURE_PATH,
    Cursor,
    DocumentCount,
    FeatureNumber,
    FeatureOrder,
    LayerFilter,
    LayerNumber,
    MaximumDensity,
    MinimumD,
    MinimumDensity,
    OpenRun,
    PageSize,
    PoolingName,
    QuantileFilter,
    TokenCount,
    TokenFilter,
    VarietyFilter,
    WithOnset,
    optional,
)
from tegakari.store import Store, queries

SearchedRun = Annotated[
    str | None,
    optional("run that is searched; default: the feature's own", "in", type="string", pattern=NAME_PATTERN),
]


@read("/features", "listFeatures", "Features of a run")
def list_features(
    run: OpenRun,
    layer: LayerFilter = None,
    token: TokenFilter = None,
    variety: VarietyFilter = None,
    min_density: MinimumDensity = None,
    max_density: MaximumDensity = None,
    min_cohens_d: MinimumD = None,
    order: FeatureOrder = "feature",
    onset: WithOnset = False,
    limit: PageSize = 50,
    cursor: Cursor = None,
) -> Page[FeatureRow]:
    """Features that pass every filter given. `min_cohens_d` and order `d` look at each feature's label of largest d."""
    return queries.features(
        run,
        layer=layer,
        token=token,
        variety=parse_variety(variety) if variety is not None else None,
        min_density=min_density,
        max_density=max_density,
        min_cohens_d=min_cohens_d,
        order=order,
        onset=onset,
        limit=limit,
        cursor=cursor,
    )


@read(FEATURE_PATH, "getFeature", "A feature")
async def get_feature(
    run: OpenRun,
    layer: LayerNumber,
    feature: FeatureNumber,
    pooling: PoolingName = None,
    tokens: TokenCount = None,
    onset: WithOnset = False,
) -> FeatureDetail:
    """One feature: its statistics, its labels by Cohen's d, and its strongest positions in context."""
    query = partial(queries.feature, run, layer, feature, pooling=pooling, tokens=tokens, onset=onset)
    return await (sync_to_thread(query) if onset else read_blocks(run, query))


@read(f"{FEATURE_PATH}/labels", "listFeatureLabels", "Labels of a feature")
async def list_feature_labels(
    run: OpenRun,
    layer: LayerNumber,
    feature: FeatureNumber,
    pooling: PoolingName = None,
    limit: PageSize = 50,
    cursor: Cursor = None,
) -> Page[FeatureLabel]:
    """Labels by Cohen's d for the feature, largest first; those for which it is not defined last."""
    query = partial(queries.feature_labels, run, layer, feature, pooling=pooling, limit=limit, cursor=cursor)
    return await read_blocks(run, query)


@read(f"{FEATURE_PATH}/tokens", "listFeatureTokens", "Strongest positions of a feature")
async def list_feature_tokens(
    run: OpenRun, layer: LayerNumber, feature: FeatureNumber, limit: PageSize = 50, cursor: Cursor = None
) -> Page[TopToken]:
    """The strongest positions of the corpus, as many as the run keeps, each with the text around it."""
    return await read_blocks(run, partial(queries.feature_tokens, run, layer, feature, limit=limit, cursor=cursor))


@read(f"{FEATURE_PATH}/contexts", "listFeatureContexts", "Contexts of a feature")
def list_feature_contexts(
    run: OpenRun,
    layer: LayerNumber,
    feature: FeatureNumber,
    quantile: QuantileFilter = None,
    limit: PageSize = 50,
    cursor: Cursor = None,
) -> Page[FeatureContext]:
    """Windows of tokens with the activation at each: of the strongest positions, then of a sample in ten tenths."""
    return queries.feature_contexts(run, layer, feature, quantile=quantile, limit=limit, cursor=cursor)


@read(f"{FEATURE_PATH}/documents", "listFeatureDocuments", "Strongest documents of a feature")
async def list_feature_documents(
    run: OpenRun, layer: LayerNumber, feature: FeatureNumber, limit: DocumentCount = 20
) -> Page[TopDocument]:
    """The documents in which the feature is strongest, by the run's pooling; ties by document."""
    return Page(await read_blocks(run, partial(queries.feature_documents, run, layer, feature, limit=limit)))


@read(f"{FEATURE_PATH}/histogram", "getFeatureHistogram", "Activations of a feature")
def get_feature_histogram(run: OpenRun, layer: LayerNumber, feature: FeatureNumber) -> ActivationHistogram:
    """How the feature's pooled activations are spread over the documents in which it is active."""
    return queries.feature_histogram(run, layer, feature)


# Vectors can be added to a run later, and the run that is searched can be another.
@read(f"{FEATURE_PATH}/neighbours", "listFeatureNeighbours", "Neighbours of a feature", changes=True)
def list_feature_neighbours(
    run: OpenRun,
    store: NamedDependency[Store],
    layer: LayerNumber,
    feature: FeatureNumber,
    searched: SearchedRun = None,
    in_layer: LayerFilter = None,
    limit: PageSize = 20,
) -> Page[FeatureNeighbour]:
    """Features whose decoder directions have the largest cosine with this one's, exact; of this run or of another."""
    within = open_run(store, searched, field="in") if searched is not None else None
    return Page(queries.feature_neighbours(run, layer, feature, within=within, in_layer=in_layer, limit=limit))


RUN_HANDLERS = (
    list_features,
    get_feature,
    list_feature_labels,
    list_feature_tokens,
    list_feature_contexts,
    list_feature_documents,
    get_feature_histogram,
    list_feature_neighbours,
)
