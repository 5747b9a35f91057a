"""Queries about label effects: labels of a feature, and features of a label."""

from __future__ import annotations

import numpy as np

from tegakari.schemas.api import FeatureEffect, LabelEffect, Page
from tegakari.schemas.filters import EffectOrder
from tegakari.store import effects
from tegakari.store.queries.cursor import cursor_error, list_name, page_of, read_number, write_cursor
from tegakari.store.queries.parameters import check_limit, feature_place, layers_of
from tegakari.store.reader import Run
from tegakari.store.weak_cache import weakly_cached


def feature_effects(
    run: Run, layer: int, feature: int, *, order: EffectOrder = "largest", limit: int = 50, cursor: str | None = None
) -> Page[FeatureEffect]:
    """Labels by the effect of a feature on their logits; ties by class.

    Args:
        run: the run.
        layer: of the feature.
        feature: its number in the layer.
        order: largest or smallest effects first.
        limit: rows per page.
        cursor: `next` of the page before.

    Raises:
        NotFoundError: no such layer or feature, or there are no label effects.
        QueryError: the limit is out of range.
        CursorError: the cursor does not come from a page of this list.
    """
    place = feature_place(run, layer, feature)
    values = effects.feature_effects(run, layer, feature)
    labels = np.argsort(values if order == "smallest" else -values, kind="stable")
    rows = [FeatureEffect(label=run.labels[label], effect=values[label].item()) for label in labels.tolist()]
    return page_of(rows, list_name(run, "feature_effects", place, order), limit, cursor)


def label_effects(
    run: Run,
    label: str,
    *,
    layer: int | None = None,
    order: EffectOrder = "largest",
    limit: int = 50,
    cursor: str | None = None,
) -> Page[LabelEffect]:
    """Features by their effect on the logit of a label; ties by layer and feature. Those never active are left out.

    Args:
        run: the run.
        label: the label.
        layer: only features of this layer; default: all layers that have label effects.
        order: largest or smallest effects first.
        limit: rows per page.
        cursor: `next` of the page before.

    Raises:
        NotFoundError: no such label or layer, or there are no label effects.
        QueryError: the limit is out of range.
        CursorError: the cursor does not come from a page of this list.
    """
    label_id = run.label_id(label)
    layers = tuple(layers_of(run, layer) if layer is not None else effects.effect_layers(run))
    check_limit(limit)
    places = _ordered(run, label_id, layers, order)
    list_ = list_name(run, "label_effects", label_id, layer, order)
    last = read_number(cursor, list_, run.blocks.places.starts[-1])
    start = 0
    if last is not None:
        (index,) = np.nonzero(places == last)
        if not len(index):
            raise cursor_error()
        start = int(index[0]) + 1
    page = places[start : start + limit]
    following = write_cursor(list_, int(page[-1])) if start + limit < len(places) else None
    return Page(_rows(run, label_id, layers, page), following)


@weakly_cached(maxsize=8)
def _ordered(run: Run, label_id: int, layers: tuple[int, ...], order: EffectOrder) -> np.ndarray:
    """Places of the features of some layers that are ever active, in order of their effects."""
    places = np.concatenate([np.arange(*_bounds(run, layer)) for layer in layers])
    values = _effects(run, label_id, layers)
    active = run.blocks.features["active_positions"][places] > 0
    places, values = places[active], values[active]
    return places[np.argsort(values if order == "smallest" else -values, kind="stable")]


def _effects(run: Run, label_id: int, layers: tuple[int, ...]) -> np.ndarray:
    return np.concatenate([effects.label_effects(run, layer, label_id) for layer in layers])


def _bounds(run: Run, layer: int) -> tuple[int, int]:
    places = run.blocks.places.slice_of(layer)
    return places.start, places.stop


def _rows(run: Run, label_id: int, layers: tuple[int, ...], places: np.ndarray) -> list[LabelEffect]:
    blocks, pooling = run.blocks, run.manifest.pooling
    columns = blocks.features
    by_layer = {layer: effects.label_effects(run, layer, label_id) for layer in layers}
    d = blocks.statistics["d", pooling][label_id][places].tolist()
    names = ("layer", "feature", f"variety_{pooling}", "density", "max_activation")
    rows = zip(*(columns[name][places].tolist() for name in names), d, blocks.shown_texts(places), strict=True)
    return [
        LabelEffect(
            layer=layer,
            feature=feature,
            effect=by_layer[layer][feature].item(),
            cohens_d=None if np.isnan(d_) else d_,
            variety=variety,
            density=density,
            max_activation=maximum,
            top_tokens=tokens,
        )
        for layer, feature, variety, density, maximum, d_, tokens in rows
    ]
