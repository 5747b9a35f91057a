"""Sweeps of knockouts, for tables and figures: over labels, numbers of features, layers, or single features."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np

from tegakari.analyses.engine.run_models import ModelLoader
from tegakari.analyses.knockout.compute import knock_out_all
from tegakari.analyses.knockout.settings import resolve, strongest_features, strongest_up_to
from tegakari.schemas.knockout import KnockoutResult, KnockoutSettings, LayerFeature
from tegakari.schemas.progress import NoProgress, Progress
from tegakari.store import Run

KS = (1, 2, 3, 5, 7, 10, 15, 20, 30, 50, 70, 100, 150, 200)
"""Default numbers of features of a curve over k."""


def over_labels(
    store: Path,
    run: Run,
    load_models: ModelLoader,
    labels: Sequence[str],
    settings: KnockoutSettings,
    *,
    progress: Progress = NoProgress(),
) -> list[KnockoutResult]:
    """A knockout per label, in the layer of the settings or, without one, in the layer of the label's largest effect.

    A layer that is chosen for its effect overstates the effect; the interval does not account for the choice.

    Args:
        store: the store's directory.
        run: published.
        load_models: called if a result is not stored.
        labels: of the run.
        settings: of every knockout; its label is replaced.
        progress: as of `knock_out_all`.

    Raises:
        NotFoundError, QueryError, MemoryShortError, ModelNotHereError, DiskFullError: as of `knock_out_all`.
    """
    knockouts = [msgspec.structs.replace(settings, label=label) for label in labels]
    if settings.layer is None:
        layers = layers_of_largest_effect(store, run, load_models, knockouts, progress=progress)
        knockouts = [
            msgspec.structs.replace(knockout, layer=layer) for knockout, layer in zip(knockouts, layers, strict=True)
        ]
    return knock_out_all(store, run, load_models, knockouts, progress=progress)


def layers_of_largest_effect(
    store: Path,
    run: Run,
    load_models: ModelLoader,
    settings: Sequence[KnockoutSettings],
    *,
    progress: Progress = NoProgress(),
) -> list[int]:
    """Per knockout the layer whose ablation lowers recall most, the lowest among equals; computed without controls.

    Arguments and errors as of `knock_out_all`.
    """
    without_controls = [msgspec.structs.replace(knockout, draws=0) for knockout in settings]
    curves = over_layers(store, run, load_models, without_controls, progress=progress)
    return [min(results, key=lambda result: result.delta).settings.layer or 0 for results in curves]


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
    available = len(strongest_up_to(run, resolved.label, resolved.layer, resolved.pooling, max(ks)))
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
    assert resolved.label is not None
    assert resolved.layer is not None
    features = strongest_features(run, resolved.label, resolved.layer, resolved.pooling, resolved.k)
    knockouts = [
        msgspec.structs.replace(
            resolved, label=None, layer=None, pooling=None, features=[LayerFeature(feature.layer, feature.feature)]
        )
        for feature in features
    ]
    return knock_out_all(store, run, load_models, knockouts, progress=progress)
