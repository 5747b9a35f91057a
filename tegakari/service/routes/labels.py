"""Routes of labels: the list, one label, its features."""

from __future__ import annotations

from functools import partial

from litestar.concurrency import sync_to_thread

from tegakari.schemas.api import LabelDetail, LabelEffect, LabelFeature, LabelRow, Page
from tegakari.schemas.filters import parse_variety
from tegakari.service.engine.block_reads import read_blocks
from tegakari.service.http.operations import read
from tegakari.service.http.parameters import (
    Cursor,
    EffectOrder,
    LabelName,
    LayerFilter,
    MinimumD,
    OpenRun,
    PageSize,
    PoolingName,
    VarietyFilter,
    WithOnset,
)
from tegakari.store import queries


@read("/labels", "listLabels", "Labels of a run")
def list_labels(run: OpenRun) -> Page[LabelRow]:
    """All labels in class order, with the classifier's scores and how many features carry each."""
    return Page(queries.labels(run))


@read("/labels/{label:str}", "getLabel", "A label")
def get_label(run: OpenRun, label: LabelName) -> LabelDetail:
    """One label, and the labels that its documents are predicted as."""
    return queries.label(run, label)


@read("/labels/{label:str}/features", "listLabelFeatures", "Features of a label")
async def list_label_features(
    run: OpenRun,
    label: LabelName,
    layer: LayerFilter = None,
    pooling: PoolingName = None,
    min_cohens_d: MinimumD = None,
    variety: VarietyFilter = None,
    onset: WithOnset = False,
    limit: PageSize = 50,
    cursor: Cursor = None,
) -> Page[LabelFeature]:
    """Features by Cohen's d for the label, largest first; ties by active documents of the label, then mean."""
    query = partial(
        queries.label_features,
        run,
        label,
        layer=layer,
        pooling=pooling,
        min_cohens_d=min_cohens_d,
        variety=parse_variety(variety) if variety is not None else None,
        onset=onset,
        limit=limit,
        cursor=cursor,
    )
    if pooling in (None, run.manifest.pooling) and variety is None and not onset:
        return await read_blocks(run, query)
    # Another pooling is sorted first, a filter may read all features, and onsets take milliseconds per feature.
    return await sync_to_thread(query)


# Label effects can be added to a run of format 3 later.
@read("/labels/{label:str}/effects", "listLabelEffects", "Features by their effect on a label", changes=True)
def list_label_effects(
    run: OpenRun,
    label: LabelName,
    layer: LayerFilter = None,
    order: EffectOrder = "largest",
    limit: PageSize = 50,
    cursor: Cursor = None,
) -> Page[LabelEffect]:
    """Features that are ever active by how much a unit of their activation adds to the label's logit, directly."""
    return queries.label_effects(run, label, layer=layer, order=order, limit=limit, cursor=cursor)


RUN_HANDLERS = (list_labels, get_label, list_label_features, list_label_effects)
