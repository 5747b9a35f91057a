"""Layer of a table of knockouts: given by run, or chosen by the effect net of controls."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np

from tegakari.analyses.engine.model_loader import ModelLoader
from tegakari.analyses.knockout.compute import knock_out_all
from tegakari.analyses.knockout.controls import check_controls
from tegakari.analyses.knockout.holdout import holdout_of
from tegakari.analyses.knockout.settings import resolve, strongest_features
from tegakari.schemas.errors import ConfigError, NotFoundError, QueryError
from tegakari.schemas.knockout import (
    KnockoutResult,
    KnockoutSettings,
    LayerChoice,
    LayerEffect,
    LayerFeature,
    LayerSelection,
)
from tegakari.schemas.progress import NoProgress, Progress
from tegakari.store import Run

CHOICE_DRAWS = 1
"""Sets in each control while a layer is chosen: the mean over labels averages them."""


def check_selection(selection: LayerSelection, runs: Sequence[str]) -> None:
    """Check that layers by run are those of the runs.

    Raises:
        ConfigError: a run has no layer, or a layer is of another run.
    """
    if not isinstance(selection, dict):
        return
    for run in selection:
        if run not in runs:
            raise ConfigError(f"{run!r} is none of the runs", field="--layer", fix=f"use the names {', '.join(runs)}")
    for run in runs:
        if run not in selection:
            raise ConfigError(f"run {run!r} has no layer", field="--layer", fix=f"add {run}=LAYER, or leave it out")


def selected_layer(selection: LayerSelection, run: str) -> int | None:
    """Layer that a selection gives a run; None if the layer has to be chosen."""
    if isinstance(selection, dict):
        return selection[run]
    return selection if isinstance(selection, int) else None


class LayerEffects(NamedTuple):
    """Effects of knockouts in every layer of a run."""

    layers: list[int]
    net: np.ndarray
    """points, float64 [labels, layers]: `delta` minus the control of the same density; NaN in layers left out"""
    left_out: dict[int, str]
    """layer -> why it cannot be chosen"""


def choose_layer(
    store: Path,
    run: Run,
    load_models: ModelLoader,
    labels: Sequence[str],
    settings: KnockoutSettings,
    *,
    progress: Progress = NoProgress(),
) -> LayerChoice:
    """Choose the layer of a run with the largest mean net effect over labels, the lowest among equals.

    Args:
        store: the store's directory.
        run: published.
        load_models: called if a result is not stored.
        labels: of the run.
        settings: of every knockout; label, layer and draws are replaced. With `holdout`, effects are measured on the
            choice half.
        progress: as of `knock_out_all`.

    Raises:
        NotFoundError: no such label, or no layer has enough features.
        QueryError, MemoryShortError, ModelNotHereError, DiskFullError: as of `knock_out_all`.
    """
    effects = layer_effects(store, run, load_models, labels, settings, progress=progress)
    mean = effects.net.mean(0)
    return LayerChoice(
        run=run.name,
        layer=effects.layers[int(np.nanargmin(mean))],
        labels=len(labels),
        draws=CHOICE_DRAWS,
        holdout=settings.holdout,
        effects=[
            LayerEffect(
                layer=layer,
                net=None if layer in effects.left_out else float(net),
                left_out=effects.left_out.get(layer),
            )
            for layer, net in zip(effects.layers, mean, strict=True)
        ],
    )


def layers_per_label(
    store: Path,
    run: Run,
    load_models: ModelLoader,
    labels: Sequence[str],
    settings: KnockoutSettings,
    *,
    progress: Progress = NoProgress(),
) -> list[int]:
    """Choose per label the layer with its largest net effect, the lowest among equals.

    Arguments and errors as of `choose_layer`.
    """
    effects = layer_effects(store, run, load_models, labels, settings, progress=progress)
    return [effects.layers[number] for number in np.nanargmin(effects.net, axis=1).tolist()]


def layer_effects(
    store: Path,
    run: Run,
    load_models: ModelLoader,
    labels: Sequence[str],
    settings: KnockoutSettings,
    *,
    progress: Progress = NoProgress(),
) -> LayerEffects:
    """Measure the net effect of every label in every layer, on the documents that layers are chosen on.

    A layer in which a knockout is refused, as where few features are active, is left out.

    Arguments and errors as of `choose_layer`.
    """
    layers = list(run.manifest.saes.layers)
    requests, left_out = layer_requests(run, labels, settings)
    results, refused = _results_by_layer(store, run, load_models, requests, progress)
    left_out |= refused
    if not results:
        raise _no_layer(run, left_out)
    net = np.full((len(labels), len(layers)), np.nan)
    for layer, of_layer in results.items():
        net[:, layers.index(layer)] = [_net(result) for result in of_layer]
    return LayerEffects(layers, net, left_out)


def layer_requests(
    run: Run, labels: Sequence[str], settings: KnockoutSettings
) -> tuple[dict[int, list[KnockoutSettings]], dict[int, str]]:
    """The knockouts of every label by layer, and why a layer is left out. Computes nothing with the models.

    Args:
        run: published.
        labels: of the run.
        settings: as of `choose_layer`.

    Raises:
        NotFoundError: no such label, or no layer has enough features.
        QueryError: settings that are incomplete or contradict each other.
    """
    requests: dict[int, list[KnockoutSettings]] = {}
    left_out: dict[int, str] = {}
    documents = [_choice_documents(run, label, settings) for label in labels]
    for layer in run.manifest.saes.layers:
        of_layer = [
            msgspec.structs.replace(
                settings, label=label, layer=layer, documents=ids, draws=CHOICE_DRAWS, details="none"
            )
            for label, ids in zip(labels, documents, strict=True)
        ]
        reason = _refusal(run, of_layer)
        if reason is None:
            requests[layer] = of_layer
        else:
            left_out[layer] = reason
    if not requests:
        raise _no_layer(run, left_out)
    return requests, left_out


def _no_layer(run: Run, left_out: Mapping[int, str]) -> NotFoundError:
    return NotFoundError(
        f"no layer of run {run.name!r} can be chosen: {next(iter(left_out.values()))}",
        field="k",
        fix="choose a smaller k, or other labels",
    )


def _results_by_layer(
    store: Path,
    run: Run,
    load_models: ModelLoader,
    requests: Mapping[int, Sequence[KnockoutSettings]],
    progress: Progress,
) -> tuple[dict[int, list[KnockoutResult]], dict[int, str]]:
    """Results of the knockouts of each layer, computed together; and why a layer was refused while it ran."""
    knockouts = [request for of_layer in requests.values() for request in of_layer]
    try:
        results = iter(knock_out_all(store, run, load_models, knockouts, progress=progress))
    except QueryError as error:
        if len(requests) == 1:
            return {}, dict.fromkeys(requests, error.message)
        parts = [
            _results_by_layer(store, run, load_models, {layer: of_layer}, progress)
            for layer, of_layer in requests.items()
        ]
        return dict(ChainMap(*(part[0] for part in parts))), dict(ChainMap(*(part[1] for part in parts)))
    return {layer: [next(results) for _ in of_layer] for layer, of_layer in requests.items()}, {}


def _choice_documents(run: Run, label: str, settings: KnockoutSettings) -> list[str] | None:
    """Ids of a label's documents in the choice half; None without a holdout: its evaluation documents."""
    run.label_id(label)
    if not settings.holdout:
        return None
    return run.blocks.documents.id.take(holdout_of(run, settings.seed).choice(label)).to_pylist()


def _refusal(run: Run, requests: Sequence[KnockoutSettings]) -> str | None:
    """Why knockouts cannot be computed; None if they can."""
    try:
        for request in requests:
            features = strongest_features(run, resolve(run, request))
            check_controls(run, [LayerFeature(feature.layer, feature.feature) for feature in features])
    except (NotFoundError, QueryError) as error:
        return error.message
    return None


def _net(result: KnockoutResult) -> float:
    control = result.density_control
    return result.delta - control.delta_mean if control else result.delta
