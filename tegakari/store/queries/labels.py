"""Queries about labels."""

from __future__ import annotations

import math
from typing import Any, TypeVar

import msgspec
import numpy as np

from tegakari.schemas.api import (
    Confusion,
    LabelDetail,
    LabelFeature,
    LabelRow,
    Page,
)
from tegakari.schemas.filters import Variety
from tegakari.store.blocks.ranking import Ranking
from tegakari.store.queries.cursor import list_name, read_number, write_cursor
from tegakari.store.queries.onset import with_onset
from tegakari.store.queries.parameters import (
    check_finite,
    check_layer,
    check_limit,
    check_pooling,
    variety_range,
)
from tegakari.store.queries.rows import label_feature_rows
from tegakari.store.reader import Run
from tegakari.store.score_intervals import f1_ends

T = TypeVar("T")

_LABELS = """
SELECT label, documents, precision, recall, f1, specific_features, shared_features FROM labels ORDER BY label_id
"""

_PREDICTIONS = """
SELECT l.label AS predicted, c.documents
FROM confusion c JOIN labels l ON l.label_id = c.predicted_id
WHERE c.label_id = $label_id ORDER BY c.documents DESC, c.predicted_id
"""


def labels(run: Run) -> list[LabelRow]:
    """All labels of the run, by class index."""
    documents = run.blocks.documents
    right = documents.label_id[documents.label_id == documents.predicted_id]
    hits, predictions = (np.bincount(ids, minlength=len(run.labels)) for ids in (right, documents.predicted_id))
    rows = run.rows(_LABELS)
    for number, row in enumerate(rows):
        ends = f1_ends(int(hits[number]), row["documents"], int(predictions[number]))
        row["f1_low"], row["f1_high"] = (None if math.isnan(end) else end for end in ends)
    return _converted(run, rows, LabelRow)


def label(run: Run, name: str) -> LabelDetail:
    """One label and the predictions of its documents.

    Raises:
        NotFoundError: the run has no such label.
    """
    label_id = run.label_id(name)
    predictions = _converted(run, run.rows(_PREDICTIONS, {"label_id": label_id}), Confusion)
    return LabelDetail(**msgspec.structs.asdict(labels(run)[label_id]), predictions=predictions)


def label_features(
    run: Run,
    name: str,
    *,
    layer: int | None = None,
    pooling: str | None = None,
    min_cohens_d: float | None = None,
    variety: Variety | None = None,
    onset: bool = False,
    limit: int = 50,
    cursor: str | None = None,
) -> Page[LabelFeature]:
    """Features by Cohen's d for a label, largest first; ties by active documents, mean, layer, feature.

    Args:
        run: the run.
        name: the label.
        layer: only features of this layer.
        pooling: pooling of the statistics; default: the run's.
        min_cohens_d: smallest Cohen's d.
        variety: only features with this label variety whose d for this label is above the run's threshold: "specific"
            means specific to this label. Features of variety 0 are above it for no label.
        onset: fill in `onset_tokens` and `lift_tokens`.
        limit: rows per page.
        cursor: `next` of the page before.

    Raises:
        NotFoundError: no such label or layer.
        QueryError: limit, pooling or min_cohens_d is out of range.
        CursorError: the cursor does not come from a page of this list.
    """
    label_id = run.label_id(name)
    pooling = check_pooling(run, pooling)
    if layer is not None:
        check_layer(run, layer)
    check_limit(limit)
    check_finite("min_cohens_d", min_cohens_d)
    list_ = list_name(run, "label_features", label_id, layer, pooling, min_cohens_d, variety)
    last = read_number(cursor, list_, sum(run.manifest.saes.widths))
    ranking = Ranking(run.blocks, label_id, pooling, layer, stored_order=pooling == run.manifest.pooling)
    smallest_d = _smallest_d(run, min_cohens_d, variety)
    places = ranking.after(last, limit + 1, min_cohens_d=smallest_d, variety=variety_range(variety))
    page = places[:limit]
    following = write_cursor(list_, int(page[-1])) if len(places) > limit else None
    rows = label_feature_rows(run, label_id, pooling, page)
    return Page(with_onset(run, rows, page) if onset else rows, following)


def _smallest_d(run: Run, min_cohens_d: float | None, variety: Variety | None) -> float | None:
    """Smallest d of a list: a feature whose variety is filtered carries the label, unless it carries none."""
    if variety is None or variety == 0:
        return min_cohens_d
    above_threshold = math.nextafter(run.manifest.variety_threshold, math.inf)
    return above_threshold if min_cohens_d is None else max(min_cohens_d, above_threshold)


def _converted(run: Run, rows: list[dict[str, Any]], row_type: type[T]) -> list[T]:
    try:
        return msgspec.convert(rows, list[row_type])
    except msgspec.ValidationError as error:  # a null where there is none in a run of this program
        raise run.unreadable(error) from error
