"""A knockout as it is asked: what is wrong with it, its defaults, and the documents and features it means."""

from __future__ import annotations

from typing import NamedTuple

import msgspec
import numpy as np

from tegakari.schemas.config import Pooling
from tegakari.schemas.errors import NotFoundError, QueryError
from tegakari.schemas.knockout import KnockoutSettings, RemovedFeature
from tegakari.store import Run, queries


class Targets(NamedTuple):
    """Documents that the features are taken out of."""

    ids: list[str]
    texts: list[str]
    numbers: np.ndarray | None
    """int64 [D], in the run; None: they are texts of the moment."""
    expected: np.ndarray | None
    """int64 [D], class of each; None: what each is predicted as with all features."""


def resolve(run: Run, asked: KnockoutSettings) -> KnockoutSettings:
    """Fill in defaults, so that equal questions are equal.

    Raises:
        QueryError: what was given does not go together.
        NotFoundError: no such label, layer or feature.
    """
    if (asked.label is None) == (asked.features is None):
        raise QueryError("give either a label or features", field="label", fix="`label` with `layer`, or `features`")
    given = [name for name in ("documents_of", "documents", "texts") if getattr(asked, name) is not None]
    if len(given) > 1:
        raise QueryError(f"{' and '.join(given)} are given, they exclude each other", field=given[1], fix="give one")
    changes: dict[str, object] = {}
    if asked.features is not None:
        if asked.layer is not None or asked.pooling is not None:
            raise QueryError("they go with a label", field="layer", fix="leave out layer and pooling, or the features")
        for each in asked.features:
            queries.feature_place(run, each.layer, each.feature)
        if not given:
            raise QueryError("no documents", field="documents", fix="give documents_of, documents or texts")
        changes |= {"features": sorted(set(asked.features)), "k": 0}
    else:
        if asked.layer is None:
            raise QueryError("it is missing", field="layer", fix="say which layer's features are taken out")
        queries.check_layer(run, asked.layer)
        run.label_id(asked.label or "")
        changes["pooling"] = queries.check_pooling(run, asked.pooling)
        if not given:
            changes["documents_of"] = asked.label
    if asked.documents is not None and len(set(asked.documents)) < len(asked.documents):
        raise QueryError("a document is named twice", field="documents", fix="name each once")
    return msgspec.structs.replace(asked, **changes)


def targets_of(run: Run, asked: KnockoutSettings) -> Targets:
    """The documents of a resolved question.

    Raises:
        NotFoundError: a document that is not there, or a label without evaluation documents.
    """
    if asked.texts is not None:
        expected = None if asked.label is None else np.full(len(asked.texts), run.label_id(asked.label))
        return Targets([str(number) for number in range(len(asked.texts))], list(asked.texts), None, expected)
    known = run.blocks.documents
    if asked.documents is not None:
        numbers = np.array([queries.document_number(run, id_) for id_ in asked.documents])
    else:
        assert asked.documents_of is not None
        numbers = np.flatnonzero(known.label_id == run.label_id(asked.documents_of))
        numbers = np.intersect1d(numbers, queries.evaluation_documents(run))
        if not len(numbers):
            raise NotFoundError(
                f"run {run.name!r} has no evaluation documents of label {asked.documents_of!r}",
                field="documents_of" if asked.label is None else "label",
                fix="choose another label, or name documents",
            )
    texts = [known.text[number].as_py() for number in numbers.tolist()]
    ids = [known.id[number].as_py() for number in numbers.tolist()]
    return Targets(ids, texts, numbers, known.label_id[numbers].astype(np.int64))


def removed_features(run: Run, asked: KnockoutSettings) -> list[RemovedFeature]:
    """The features of a resolved question, by d or by layer and number.

    Raises:
        NotFoundError: the layer has fewer than k features with a d for the label.
    """
    density = run.blocks.features["density"]
    if asked.features is not None:
        places = [queries.feature_place(run, each.layer, each.feature) for each in asked.features]
        d = _d_of(run, asked, places)
        return [
            RemovedFeature(layer=each.layer, feature=each.feature, d=value, density=float(density[place]))
            for each, place, value in zip(asked.features, places, d, strict=True)
        ]
    assert asked.label is not None
    assert asked.layer is not None
    return strongest_features(run, asked.label, asked.layer, asked.pooling, asked.k)


def strongest_features(run: Run, label: str, layer: int, pooling: Pooling | None, k: int) -> list[RemovedFeature]:
    """The k features of a layer with the largest d for a label.

    Raises:
        NotFoundError: there are fewer.
    """
    found = strongest_up_to(run, label, layer, pooling, k)
    if len(found) < k:
        raise NotFoundError(
            f"layer {layer} has {len(found)} features with a d for {label!r}, not {k}",
            field="k",
            fix=f"ask for at most {len(found)}",
        )
    return found


def strongest_up_to(run: Run, label: str, layer: int, pooling: Pooling | None, k: int) -> list[RemovedFeature]:
    """The k features of a layer with the largest d for a label, or as many as have one."""
    if k == 0:
        return []
    page = queries.label_features(run, label, layer=layer, pooling=pooling, limit=k)
    return [RemovedFeature(layer=row.layer, feature=row.feature, d=row.d, density=row.density) for row in page.items]


def _d_of(run: Run, asked: KnockoutSettings, places: list[int]) -> list[float | None]:
    """For the label whose documents they are taken out of."""
    if asked.documents_of is None:
        return [None] * len(places)
    d = run.blocks.statistics["d", run.manifest.pooling][run.label_id(asked.documents_of), places]
    return [float(value) if np.isfinite(value) else None for value in d]
