"""Many knockouts for one table or picture: labels of several runs, numbers of features, layers, single features."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np

from tegakari.analyses.engine.run_models import ModelLoader
from tegakari.analyses.knockout.run import knock_out_all
from tegakari.analyses.knockout.settings import resolve, strongest_features, strongest_up_to
from tegakari.schemas.knockout import KnockoutResult, KnockoutSettings, LayerFeature
from tegakari.schemas.progress import NoProgress, Progress
from tegakari.store import Run

KS = (1, 2, 3, 5, 7, 10, 15, 20, 30, 50, 70, 100, 150, 200)


def table(
    store: Path,
    run: Run,
    load: ModelLoader,
    labels: Sequence[str],
    asked: KnockoutSettings,
    *,
    progress: Progress = NoProgress(),
) -> list[KnockoutResult]:
    """Knock each label's features out of the layer asked for, or, if none is, of that of its largest effect.

    A layer that was chosen for its effect overstates it: its interval does not know of the choice.
    """
    each = [msgspec.structs.replace(asked, label=label) for label in labels]
    if asked.layer is None:
        layers = largest_effects(store, run, load, each, progress=progress)
        each = [msgspec.structs.replace(one, layer=layer) for one, layer in zip(each, layers, strict=True)]
    return knock_out_all(store, run, load, each, progress=progress)


def largest_effects(
    store: Path, run: Run, load: ModelLoader, asked: Sequence[KnockoutSettings], *, progress: Progress = NoProgress()
) -> list[int]:
    """For each question without a layer the layer that costs most recall, the lowest among equals; without controls."""
    found = over_layers(store, run, load, [msgspec.structs.replace(one, draws=0) for one in asked], progress=progress)
    return [min(results, key=lambda result: result.delta).settings.layer or 0 for results in found]


def over_layers(
    store: Path, run: Run, load: ModelLoader, asked: Sequence[KnockoutSettings], *, progress: Progress = NoProgress()
) -> list[list[KnockoutResult]]:
    """Each question at every layer of the run, ascending."""
    layers = run.manifest.saes.layers
    every = [msgspec.structs.replace(one, layer=layer) for one in asked for layer in layers]
    found = knock_out_all(store, run, load, every, progress=progress)
    return [found[start : start + len(layers)] for start in range(0, len(found), len(layers))]


def over_k(
    store: Path,
    run: Run,
    load: ModelLoader,
    asked: KnockoutSettings,
    ks: Sequence[int] = KS,
    *,
    progress: Progress = NoProgress(),
) -> list[KnockoutResult]:
    """A question with each number of features; numbers that the layer does not have are left out.

    Where there are not as many other active features, there is no control.
    """
    settings = resolve(run, asked)
    assert settings.label is not None
    assert settings.layer is not None
    there = len(strongest_up_to(run, settings.label, settings.layer, settings.pooling, max(ks)))
    active = np.count_nonzero(run.blocks.features["active_positions"][run.blocks.places.slice_of(settings.layer)])
    every = [
        msgspec.structs.replace(settings, k=k, draws=settings.draws if 2 * k <= active else 0) for k in ks if k <= there
    ]
    return knock_out_all(store, run, load, every, progress=progress)


def one_by_one(
    store: Path, run: Run, load: ModelLoader, asked: KnockoutSettings, *, progress: Progress = NoProgress()
) -> list[KnockoutResult]:
    """Each of a label's k strongest features alone, by d."""
    settings = resolve(run, asked)
    assert settings.label is not None
    assert settings.layer is not None
    features = strongest_features(run, settings.label, settings.layer, settings.pooling, settings.k)
    single = [
        msgspec.structs.replace(
            settings, label=None, layer=None, pooling=None, features=[LayerFeature(each.layer, each.feature)]
        )
        for each in features
    ]
    return knock_out_all(store, run, load, single, progress=progress)
