"""Sweeps of knockouts, for tables and figures: over labels, numbers of features, layers, or single features."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np

from tegakari.analyses.engine.model_loader import ModelLoader
from tegakari.analyses.knockout.compute import knock_out_all
from tegakari.analyses.knockout.controls import check_controls
from tegakari.analyses.knockout.layer_choice import choose_layer, layer_requests, layers_per_label
from tegakari.analyses.knockout.settings import resolve, strongest_features, strongest_up_to, targets_of
from tegakari.schemas.knockout import KnockoutResult, KnockoutSettings, LayerChoice, LayerFeature
from tegakari.schemas.progress import NoProgress, Progress
from tegakari.store import Run

KS = (1, 2, 3, 5, 7, 10, 15, 20, 30, 50, 70, 100, 150, 200)
"""Default numbers of features of a curve over k."""


class LabelKnockouts(NamedTuple):
    """Knockouts of several labels of a run."""

    results: list[KnockoutResult]
    """one per label"""
    choice: LayerChoice | None
    """choice of the layer; None if it was given, or chosen per label"""


def over_labels(
    store: Path,
    run: Run,
    load_models: ModelLoader,
    labels: Sequence[str],
    settings: KnockoutSettings,
    *,
    per_label: bool = False,
    progress: Progress = NoProgress(),
) -> LabelKnockouts:
    """A knockout per label: in the layer of the settings, or in the one whose effect net of controls is largest.

    Without a holdout, a layer that is chosen for its effect overstates the effect; the interval does not account for
    the choice.

    Args:
        store: the store's directory.
        run: published.
        load_models: called if a result is not stored.
        labels: of the run.
        settings: of every knockout; its label is replaced. Without a layer, one is chosen.
        per_label: choose a layer for each label, and not one for all.
        progress: as of `knock_out_all`.

    Raises:
        NotFoundError, QueryError, MemoryShortError, ModelNotHereError, DiskFullError: as of `knock_out_all`.
    """
    choice = None
    if settings.layer is not None:
        layers = [settings.layer] * len(labels)
    elif per_label:
        layers = layers_per_label(store, run, load_models, labels, settings, progress=progress)
    else:
        choice = choose_layer(store, run, load_models, labels, settings, progress=progress)
        layers = [choice.layer] * len(labels)
    knockouts = [
        msgspec.structs.replace(settings, label=label, layer=layer) for label, layer in zip(labels, layers, strict=True)
    ]
    return LabelKnockouts(knock_out_all(store, run, load_models, knockouts, progress=progress), choice)


def check_over_labels(run: Run, labels: Sequence[str], settings: KnockoutSettings) -> None:
    """Refuse, before a model runs, what `over_labels` would refuse after hours.

    Args:
        run: published.
        labels: of the run.
        settings: as of `over_labels`.

    Raises:
        NotFoundError: no such label or layer, a label without evaluation documents, or a layer with too few features
            for `k` or its controls.
        QueryError: settings that contradict each other, or a pooling that the run does not have.
    """
    if settings.layer is None:
        layer_requests(run, labels, settings)
        return
    for label in labels:
        resolved = resolve(run, msgspec.structs.replace(settings, label=label))
        targets_of(run, resolved)
        features = strongest_features(run, resolved)
        if settings.draws:
            check_controls(run, [LayerFeature(feature.layer, feature.feature) for feature in features])


def over_layers(
    store: Path,
    run: Run,
    load_models: ModelLoader,
    settings: Sequence[KnockoutSettings],
    *,
    progress: Progress = NoProgress(),
) -> list[list[KnockoutResult]]:
    """Results of each knockout in every layer of the run, ascending.

    Arguments and errors as of `knock_out_all`.
    """
    layers = run.manifest.saes.layers
    knockouts = [msgspec.structs.replace(knockout, layer=layer) for knockout in settings for layer in layers]
    results = knock_out_all(store, run, load_models, knockouts, progress=progress)
    return [results[start : start + len(layers)] for start in range(0, len(results), len(layers))]


def over_k(
    store: Path,
    run: Run,
    load_models: ModelLoader,
    settings: KnockoutSettings,
    ks: Sequence[int] = KS,
    *,
    progress: Progress = NoProgress(),
) -> list[KnockoutResult]:
    """Results of a knockout of a label with each number of features, as far as the layer has as many.

    Where the layer has too few other active features for a control, there is none.

    Args:
        store: the store's directory.
        run: published.
        load_models: called if a result is not stored.
        settings: with label and layer; its k is replaced.
        ks: numbers of features.
        progress: as of `knock_out_all`.

    Raises:
        NotFoundError, QueryError, MemoryShortError, ModelNotHereError, DiskFullError: as of `knock_out_all`.
    """
    resolved = resolve(run, settings)
    assert resolved.label is not None
    assert resolved.layer is not None
    available = len(strongest_up_to(run, resolved, max(ks)))
    active = np.count_nonzero(run.blocks.features["active_positions"][run.blocks.places.slice_of(resolved.layer)])
    knockouts = [
        msgspec.structs.replace(resolved, k=k, draws=resolved.draws if 2 * k <= active else 0)
        for k in ks
        if k <= available
    ]
    return knock_out_all(store, run, load_models, knockouts, progress=progress)


def over_features(
    store: Path, run: Run, load_models: ModelLoader, settings: KnockoutSettings, *, progress: Progress = NoProgress()
) -> list[KnockoutResult]:
    """Results of ablating each of a label's k features with the largest d alone, by d.

    Arguments and errors as of `knock_out_all`, of one knockout with label and layer.
    """
    resolved = resolve(run, settings)
    features = strongest_features(run, resolved)
    knockouts = [
        msgspec.structs.replace(
            resolved, label=None, layer=None, pooling=None, features=[LayerFeature(feature.layer, feature.feature)]
        )
        for feature in features
    ]
    return knock_out_all(store, run, load_models, knockouts, progress=progress)
