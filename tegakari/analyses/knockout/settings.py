"""Settings of a knockout: validation, defaults, and the documents and features that they select."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import msgspec
import numpy as np

from tegakari.analyses.engine.cost import Cost, cost_of_documents, cost_of_texts
from tegakari.analyses.knockout.holdout import holdout_of
from tegakari.schemas.config import Pooling
from tegakari.schemas.errors import NotFoundError, QueryError
from tegakari.schemas.knockout import KnockoutSettings, RemovedFeature
from tegakari.store import Run, queries


class Targets(NamedTuple):
    """Documents that a knockout is measured on."""

    ids: list[str]
    texts: list[str]
    numbers: np.ndarray | None
    """int64 [D], numbers in the run; None for texts that are not documents of the run"""
    expected: np.ndarray | None
    """int64 [D], class expected of each document; None: the class predicted with all features"""


def resolve(run: Run, settings: KnockoutSettings) -> KnockoutSettings:
    """Check settings and fill in the defaults, so that equal knockouts have equal settings.

    Raises:
        QueryError: fields are missing, or exclude each other.
        NotFoundError: no such label, layer or feature.
    """
    if (settings.label is None) == (settings.features is None):
        raise QueryError("give either a label or features", field="label", fix="`label` with `layer`, or `features`")
    if settings.holdout:
        _check_holdout(run, settings)
    sources = [name for name in ("documents_of", "documents", "texts") if getattr(settings, name) is not None]
    if len(sources) > 1:
        raise QueryError(f"{' and '.join(sources)} exclude each other", field=sources[1], fix="give one of them")
    changes: dict[str, object] = {}
    if settings.features is not None:
        if settings.layer is not None or settings.pooling is not None:
            raise QueryError(
                "`layer` and `pooling` go with a label", field="layer", fix="leave out layer and pooling, or features"
            )
        for number, feature in enumerate(settings.features):
            try:
                queries.feature_place(run, feature.layer, feature.feature)
            except NotFoundError as error:
                raise NotFoundError(error.message, field=f"features[{number}].{error.field}", fix=error.fix) from None
        if not sources:
            raise QueryError("no documents are given", field="documents", fix="give documents_of, documents or texts")
        changes |= {"features": sorted(set(settings.features)), "k": 0}
    else:
        if settings.layer is None:
            raise QueryError("it is missing", field="layer", fix="give the layer of the label's features")
        queries.check_layer(run, settings.layer)
        run.label_id(settings.label or "")
        changes["pooling"] = queries.check_pooling(run, settings.pooling)
        if not sources:
            changes["documents_of"] = settings.label
    if settings.documents is not None and len(set(settings.documents)) < len(settings.documents):
        raise QueryError("a document is named twice", field="documents", fix="name each document once")
    return msgspec.structs.replace(settings, **changes)


def _check_holdout(run: Run, settings: KnockoutSettings) -> None:
    if settings.label is None and settings.documents_of is None:
        raise QueryError(
            "a holdout halves the documents of a label", field="holdout", fix="give a label or documents_of"
        )
    if settings.pooling not in (None, run.manifest.pooling):
        raise QueryError(
            f"a holdout computes d from the activations that the run stores, whose pooling is {run.manifest.pooling!r}",
            field="pooling",
            fix=f"leave it out, or use {run.manifest.pooling!r}; or measure without a holdout",
        )


def targets_of(run: Run, settings: KnockoutSettings) -> Targets:
    """Documents that resolved settings select.

    Raises:
        NotFoundError: no such document, or the label has no evaluation documents.
    """
    if settings.texts is not None:
        expected = None if settings.label is None else np.full(len(settings.texts), run.label_id(settings.label))
        return Targets([str(number) for number in range(len(settings.texts))], list(settings.texts), None, expected)
    documents, numbers = run.blocks.documents, _document_numbers(run, settings)
    texts = [documents.text[number].as_py() for number in numbers.tolist()]
    ids = [documents.id[number].as_py() for number in numbers.tolist()]
    return Targets(ids, texts, numbers, documents.label_id[numbers].astype(np.int64))


def cost_of_knockout(run: Run, settings: KnockoutSettings) -> Cost:
    """Passes with all features, with those of the knockout ablated, with each control, and of the reconstruction.

    Args:
        run: published.
        settings: from `resolve`.

    Raises:
        NotFoundError: no such document, or the label has no evaluation documents.
    """
    passes = 2 + 2 * settings.draws + (settings.mode == "reconstruction")
    if settings.texts is not None:
        return cost_of_texts(run, settings.texts, passes)
    return cost_of_documents(run, _document_numbers(run, settings), passes)


def _document_numbers(run: Run, settings: KnockoutSettings) -> np.ndarray:
    """Numbers of the documents of a run that resolved settings select, int64 [D]."""
    if settings.documents is not None:
        return np.array([_named_document(run, number, id_) for number, id_ in enumerate(settings.documents)])
    assert settings.documents_of is not None
    numbers = _evaluation_documents_of(run, settings.documents_of, settings)
    if not len(numbers):
        raise NotFoundError(
            f"run {run.name!r} has no evaluation documents of label {settings.documents_of!r}",
            field="documents_of" if settings.label is None else "label",
            fix="choose another label, or name documents",
        )
    return numbers


def _named_document(run: Run, number: int, id_: str) -> int:
    try:
        return queries.document_number(run, id_)
    except NotFoundError as error:
        raise NotFoundError(error.message, field=f"documents[{number}]", fix=error.fix) from None


def _evaluation_documents_of(run: Run, label: str, settings: KnockoutSettings) -> np.ndarray:
    """Numbers of the evaluation documents of a label; in a holdout those of the measurement half."""
    if settings.holdout:
        return holdout_of(run, settings.seed).measurement(label)
    numbers = np.flatnonzero(run.blocks.documents.label_id == run.label_id(label))
    return np.intersect1d(numbers, queries.evaluation_documents(run))


def ablated_features(run: Run, settings: KnockoutSettings) -> list[RemovedFeature]:
    """Features that resolved settings select: of a label by d, named ones by layer and number.

    Raises:
        QueryError: the layer has fewer than k features with a d for the label.
    """
    if settings.features is not None:
        places = [queries.feature_place(run, feature.layer, feature.feature) for feature in settings.features]
        return _removed(run, settings.documents_of, settings.pooling, places, _d_of(run, settings, places))
    return strongest_features(run, settings)


def strongest_features(run: Run, settings: KnockoutSettings) -> list[RemovedFeature]:
    """The k features of the settings' layer with the largest d for their label.

    Raises:
        QueryError: the layer has fewer.
    """
    features = strongest_up_to(run, settings, settings.k)
    if len(features) < settings.k:
        raise QueryError(
            f"layer {settings.layer} has {len(features)} features with a d for {settings.label!r}, not {settings.k}",
            field="k",
            fix=f"choose k up to {len(features)}",
        )
    return features


def strongest_up_to(run: Run, settings: KnockoutSettings, k: int) -> list[RemovedFeature]:
    """The k features of the settings' layer with the largest d for their label; fewer if fewer have a d."""
    label, layer = settings.label, settings.layer
    assert label is not None
    assert layer is not None
    if k == 0:
        return []
    if settings.holdout:
        strongest = holdout_of(run, settings.seed).strongest(label, layer, k)
    else:
        page = queries.label_features(run, label, layer=layer, pooling=settings.pooling, limit=k)
        strongest = [(row.feature, row.cohens_d) for row in page.items]
    places = [queries.feature_place(run, layer, feature) for feature, _ in strongest]
    return _removed(run, label, settings.pooling, places, [d for _, d in strongest])


def _removed(
    run: Run, label: str | None, pooling: Pooling | None, places: Sequence[int], d: Sequence[float | None]
) -> list[RemovedFeature]:
    """Features at places of the run, with their d for a label."""
    columns = run.blocks.features
    active = None
    if label is not None:
        active = run.blocks.documents_active[pooling or run.manifest.pooling][run.label_id(label)]
    return [
        RemovedFeature(
            layer=int(columns["layer"][place]),
            feature=int(columns["feature"][place]),
            cohens_d=value,
            documents_active=None if active is None else int(active[place]),
            density=float(columns["density"][place]),
        )
        for place, value in zip(places, d, strict=True)
    ]


def _d_of(run: Run, settings: KnockoutSettings, places: list[int]) -> list[float | None]:
    """Cohen's d of features for the label of `documents_of`; None without such a label or d."""
    label = settings.documents_of
    if label is None:
        return [None] * len(places)
    if settings.holdout:
        holdout = holdout_of(run, settings.seed)
        d = [holdout.d(label, feature.layer)[feature.feature] for feature in settings.features or ()]
    else:
        d = run.blocks.statistics["d", run.manifest.pooling][run.label_id(label), places]
    return [float(value) if np.isfinite(value) else None for value in d]
