"""Every question that is asked of a run, once: the API, the command line and reports all ask here.

What everybody asks all day is answered from the hot blocks; the rest is SQL with bound parameters.
"""

from __future__ import annotations

import math
from typing import Any, Literal, TypeVar

import msgspec
import numpy as np

from tegakari.schemas.api import (
    Confusion,
    FeatureDetail,
    HighD,
    LabelDetail,
    LabelFeature,
    LabelRow,
    LayerSpecificity,
    Page,
    RunSummary,
    TopDocument,
)
from tegakari.schemas.config import POOLINGS, Pooling
from tegakari.schemas.errors import NotFoundError, TegakariError
from tegakari.store.answers import Ranking, feature_documents, feature_labels, label_features, tokens_in_context
from tegakari.store.cursor import CursorError, read_cursor, write_cursor
from tegakari.store.hot import TOP_DOCUMENTS
from tegakari.store.reader import Run

T = TypeVar("T")

Variety = Literal["specific", "shared"] | int
"""Label variety asked for: exactly 1, at least 2, or exactly the number."""

MAX_PAGE = 1000

SHOWN_POSITIONS = 20
"""Strongest positions of a feature that are shown unless another number is asked for."""


class QueryError(TegakariError):
    """A question with a value that no run can answer."""

    slug = "bad-parameter"


def summary(run: Run) -> RunSummary:
    """The run in a row."""
    return msgspec.convert(run.manifest, RunSummary, from_attributes=True)


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


def features_of_label(
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
    question = f"features_of_label {run.manifest.fingerprint[:16]} {label_id} {layer} {chosen} {min_d} {variety}"
    after = read_cursor(cursor, question, int) if cursor else None
    check_place(run, after)
    ranking = Ranking(run.hot, label_id, chosen, layer, own=chosen == run.manifest.pooling)
    found = ranking.after(after, limit + 1, min_d=min_d, variety=variety_range(variety))
    more = len(found) > limit
    page = found[:limit]
    following = write_cursor(question, int(page[-1])) if more else None
    return Page(label_features(run.hot, label_id, chosen, page), following)


def feature(
    run: Run, layer: int, index: int, *, pooling: Pooling | None = None, tokens: int | None = None
) -> FeatureDetail:
    """One feature: statistics, labels by d, strongest positions in context.

    Args:
        run: the run.
        layer: the layer.
        index: the feature.
        pooling: of the statistics; default: the run's.
        tokens: strongest positions shown; default: SHOWN_POSITIONS, or all where the run keeps fewer.

    Raises:
        NotFoundError: no such layer or feature.
        QueryError: unknown pooling, or more tokens than are kept.
    """
    check_layer(run, layer)
    chosen = check_pooling(run, pooling)
    if tokens is None:
        tokens = min(SHOWN_POSITIONS, run.manifest.top_tokens)
    if not 0 <= tokens <= run.manifest.top_tokens:
        raise QueryError(f"{tokens} is not from 0 to {run.manifest.top_tokens}", field="tokens", fix="ask for fewer")
    place = place_of(run, layer, index)
    columns = {name: values[place].item() for name, values in run.hot.features.items()}
    return FeatureDetail(
        layer=layer,
        feature=index,
        density=columns["density"],
        active_positions=columns["active_positions"],
        mean_activation=columns["mean_activation"],
        max_activation=columns["max_activation"],
        pooling=chosen,
        variety=columns[f"variety_{chosen}"],
        labels=feature_labels(run, place, chosen),
        tokens=tokens_in_context(run, place, tokens),
    )


def top_documents(run: Run, layer: int, index: int, *, limit: int = 20) -> list[TopDocument]:
    """Documents in which a feature is strongest, by the run's pooling; ties by document.

    Raises:
        NotFoundError: no such layer or feature.
        QueryError: not from 1 to TOP_DOCUMENTS; all are in the activation files.
    """
    check_layer(run, layer)
    if not 1 <= limit <= TOP_DOCUMENTS:
        raise QueryError(f"{limit} is not from 1 to {TOP_DOCUMENTS}", field="limit", fix="ask for fewer")
    return feature_documents(run, place_of(run, layer, index), limit)


_SPECIFICITY = """
SELECT cutoff, variety, features, layer FROM specificity WHERE pooling = $pooling ORDER BY layer, cutoff, variety
"""

HIGH_D_CUTOFFS = (1.0, 1.5, 2.0, 3.0)
"""Cut-offs at which "high d" is reported; the study does not say which it used."""


def specificity(run: Run, *, pooling: Pooling | None = None) -> list[LayerSpecificity]:
    """How specific the features of each layer are: variety histogram and high-d counts.

    Raises:
        QueryError: unknown pooling.
    """
    chosen = check_pooling(run, pooling)
    histogram: dict[tuple[int, float], dict[int, int]] = {}
    for row in run.rows(_SPECIFICITY, {"pooling": chosen}):
        histogram.setdefault((row["layer"], row["cutoff"]), {})[row["variety"]] = row["features"]
    answer = []
    for layer in run.rows("SELECT layer, d_sae, l0, explained_variance FROM layers ORDER BY layer"):
        counts = histogram.get((layer["layer"], run.manifest.variety_threshold), {})
        total = layer["d_sae"]
        answer.append(
            LayerSpecificity(
                layer=layer["layer"],
                features=total,
                l0=layer["l0"],
                explained_variance=layer["explained_variance"],
                weak=counts.get(0, 0),
                specific=counts.get(1, 0),
                shared=total - counts.get(0, 0) - counts.get(1, 0),
                mean_variety=sum(variety * count for variety, count in counts.items()) / total,
                high_d=[_high_d(cutoff, histogram.get((layer["layer"], cutoff), {})) for cutoff in HIGH_D_CUTOFFS],
            )
        )
    return answer


def _high_d(cutoff: float, counts: dict[int, int]) -> HighD:
    above = sum(count for variety, count in counts.items() if variety > 0)
    single = counts.get(1, 0)
    return HighD(
        cutoff=cutoff, features=above, single_label=single, single_label_share=single / above if above else None
    )


def layer_l0(run: Run) -> list[float]:
    """Active features per position of each layer, in the order of layers."""
    return [row["l0"] for row in run.rows("SELECT l0 FROM layers ORDER BY layer")]


def evaluation_documents(run: Run) -> np.ndarray:
    """Numbers of the documents that the classifier was not trained on, int64, ascending.

    Raises:
        NotFoundError: the run has none.
    """
    match run.manifest.corpus.split:
        case "eval":
            return np.arange(run.manifest.corpus.documents)
        case "train":
            raise NotFoundError(
                f"run {run.name!r} has training documents only", field="run", fix="index the evaluation documents"
            )
        case _:
            found = run.query("SELECT document FROM documents WHERE split = 'eval' ORDER BY document")
            return found["document"].to_numpy().astype(np.int64)


def check_pooling(run: Run, pooling: str | None) -> Pooling:
    """The pooling asked for, or the run's own.

    Raises:
        QueryError: there is no such pooling.
    """
    chosen = pooling or run.manifest.pooling
    for known in POOLINGS:
        if chosen == known:
            return known
    raise QueryError(f"{pooling!r} is no pooling", field="pooling", fix=f"use one of: {', '.join(POOLINGS)}")


def check_layer(run: Run, layer: int) -> None:
    """Refuse a layer that the run has no SAE for.

    Raises:
        NotFoundError: with the layers there are.
    """
    if layer not in run.manifest.saes.layers:
        there = ", ".join(map(str, run.manifest.saes.layers))
        raise NotFoundError(f"run {run.name!r} has no layer {layer}", field="layer", fix=f"indexed layers: {there}")


def place_of(run: Run, layer: int, feature: int) -> int:
    """Number of a feature among those of all layers.

    Raises:
        NotFoundError: the layer, which the run has, has no such feature.
    """
    where = run.hot.places.slice_of(layer)
    if not 0 <= feature < where.stop - where.start:
        raise NotFoundError(
            f"layer {layer} has features 0 to {where.stop - where.start - 1}, not {feature}",
            field="feature",
            fix="choose one of those",
        )
    return where.start + feature


def check_place(run: Run, place: int | None) -> None:
    """Refuse a cursor that points at no feature of the run.

    Raises:
        CursorError: it was made up.
    """
    if place is not None and not 0 <= place < sum(run.manifest.saes.widths):
        raise CursorError("not a cursor of this list", field="cursor", fix="use `next` of the page before, unchanged")


def check_limit(limit: int) -> None:
    """Refuse a page that is empty or too large.

    Raises:
        QueryError: not from 1 to MAX_PAGE.
    """
    if not 1 <= limit <= MAX_PAGE:
        raise QueryError(f"{limit} is not from 1 to {MAX_PAGE}", field="limit", fix="page with `cursor` for more")


def parse_variety(text: str) -> Variety:
    """Read a variety as people write it: specific, shared, or a number.

    Raises:
        QueryError: it is none of these.
    """
    if text == "specific":
        return "specific"
    if text == "shared":
        return "shared"
    if text.isascii() and text.isdigit() and len(text) < 7:
        return int(text)
    raise QueryError(f"{text!r} is no label variety", field="variety", fix="use specific, shared or a number")


def variety_range(variety: Variety | None) -> tuple[int, int]:
    """Least and largest label variety of those asked for."""
    unbounded = 2**31 - 1
    match variety:
        case None:
            return 0, unbounded
        case "specific":
            return 1, 1
        case "shared":
            return 2, unbounded
        case number:
            return int(number), int(number)


def _rows(run: Run, sql: str, parameters: dict[str, Any], kind: type[T]) -> list[T]:
    return msgspec.convert(run.rows(sql, parameters), list[kind])
