"""Queries about labels."""

from __future__ import annotations

import math
from typing import TypeVar

import msgspec

from tegakari.schemas.api import (
    Confusion,
    LabelDetail,
    LabelFeature,
    LabelRow,
    Page,
)
from tegakari.schemas.config import Pooling
from tegakari.schemas.errors import QueryError
from tegakari.store.blocks.ranking import Ranking
from tegakari.store.queries.cursor import read_cursor, write_cursor
from tegakari.store.queries.parameters import (
    Variety,
    check_layer,
    check_limit,
    check_place,
    check_pooling,
    variety_range,
)
from tegakari.store.queries.rows import label_feature_rows
from tegakari.store.queries.runs import _rows
from tegakari.store.reader import Run

T = TypeVar("T")


_LABELS = """
SELECT label, documents, precision, recall, f1, specific_features, shared_features FROM labels ORDER BY label_id
"""


def labels(run: Run) -> list[LabelRow]:
    """All labels of the run, in class order."""
    return _rows(run, _LABELS, {}, LabelRow)


_PREDICTIONS = """
SELECT l.label AS predicted, c.documents
FROM confusion c JOIN labels l ON l.label_id = c.predicted_id
WHERE c.label_id = $label_id ORDER BY c.documents DESC, c.predicted_id
"""


def label(run: Run, name: str) -> LabelDetail:
    """One label and where its documents go.

    Raises:
        NotFoundError: the run has no such label.
    """
    label_id = run.label_id(name)
    predictions = _rows(run, _PREDICTIONS, {"label_id": label_id}, Confusion)
    return LabelDetail(**msgspec.structs.asdict(labels(run)[label_id]), predictions=predictions)


def label_features(
    run: Run,
    name: str,
    *,
    layer: int | None = None,
    pooling: Pooling | None = None,
    min_d: float | None = None,
    variety: Variety | None = None,
    limit: int = 50,
    cursor: str | None = None,
) -> Page[LabelFeature]:
    """Features by Cohen's d for a label, largest first; ties by layer, then feature.

    Raises:
        NotFoundError: no such label or layer.
        QueryError: a limit, pooling, variety or min_d out of range.
        CursorError: the cursor is of another question.
    """
    label_id = run.label_id(name)
    chosen = check_pooling(run, pooling)
    if layer is not None:
        check_layer(run, layer)
    check_limit(limit)
    if min_d is not None and not math.isfinite(min_d):
        raise QueryError(f"{min_d} is no number", field="min_d", fix="give a finite number")
    question = f"label_features {run.manifest.fingerprint[:16]} {label_id} {layer} {chosen} {min_d} {variety}"
    after = read_cursor(cursor, question, int) if cursor else None
    check_place(run, after)
    ranking = Ranking(run.blocks, label_id, chosen, layer, own=chosen == run.manifest.pooling)
    found = ranking.after(after, limit + 1, min_d=min_d, variety=variety_range(variety))
    more = len(found) > limit
    page = found[:limit]
    following = write_cursor(question, int(page[-1])) if more else None
    return Page(label_feature_rows(run.blocks, label_id, chosen, page), following)
