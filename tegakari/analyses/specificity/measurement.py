"""Measurement of specificity: counts of features by label variety, under the labels and under permuted labels."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import msgspec
import numpy as np

from tegakari.analyses.specificity.assignments import half_samples, permutations
from tegakari.analyses.specificity.best_labels import best_labels, layer_activations
from tegakari.analyses.specificity.counts import Counts, chance, counts, total
from tegakari.analyses.specificity.false_discovery import Tail, q_values, tail, varying_documents
from tegakari.analyses.specificity.sample_size import specificity_warnings
from tegakari.analyses.specificity.variety import HALF_SAMPLES, unweighted_variety, variety_interval
from tegakari.schemas.api import HighD
from tegakari.schemas.progress import Progress
from tegakari.schemas.specificity import SpecificityResult, SpecificitySettings
from tegakari.store import Run, queries

THREADS = 4
"""Layers that are computed at a time, at most; each holds its activations in memory, 80 MB in a run of the study."""


class _Layer(NamedTuple):
    """Counts of a layer."""

    real: Counts
    permuted: Counts
    halves: Counts
    tail: Tail


def measure_specificity(run: Run, settings: SpecificitySettings, progress: Progress) -> SpecificityResult:
    """The specificity of a run; arguments and errors as of `specificity`."""
    started = time.perf_counter()
    label = np.asarray(run.blocks.documents.label_id)
    assignments = np.concatenate(
        [
            label[None],
            permutations(label, settings.permutations, settings.seed),
            half_samples(label, HALF_SAMPLES, settings.seed),
        ]
    )
    indexed = run.manifest.saes.layers
    progress.stage(f"{run.name}: permuted labels", len(indexed))

    def count(layer: int) -> _Layer:
        result = _count(run, layer, assignments, settings)
        progress.advance()
        return result

    with ThreadPoolExecutor(min(THREADS, len(os.sched_getaffinity(0)))) as pool:
        counted = list(pool.map(count, indexed))
    q = q_values([layer.tail for layer in counted], settings.permutations)
    variety = np.asarray(run.blocks.features[f"variety_{run.manifest.pooling}"])
    significant = []
    for layer, counts_of_layer, q_of_layer in zip(indexed, counted, q, strict=True):
        features = counts_of_layer.tail.feature[q_of_layer <= settings.fdr]
        specific = variety[run.blocks.places.slice_of(layer)][features] == 1
        significant.append((len(features), int(specific.sum())))
    layers = [
        msgspec.structs.replace(layer, chance=chance(of_layer.real, of_layer.permuted, layer.features, *numbers))
        for layer, of_layer, numbers in zip(queries.specificity(run), counted, significant, strict=True)
    ]
    real, permuted, halves = (
        total(of_layers)
        for of_layers in zip(*((layer.real, layer.permuted, layer.halves) for layer in counted), strict=True)
    )
    overall = chance(real, permuted, len(variety), *(sum(numbers) for numbers in zip(*significant, strict=True)))
    specific = int((variety == 1).sum())
    return SpecificityResult(
        run=run.name,
        settings=settings,
        pooling=run.manifest.pooling,
        threshold=run.manifest.variety_threshold,
        documents=len(label),
        labels=len(run.labels),
        features=len(variety),
        mean_variety=variety_interval(float(variety.mean()), halves.labels / len(variety)),
        mean_variety_of_half=float(halves.labels.mean() / len(variety)),
        weak=int((variety == 0).sum()),
        specific=specific,
        shared=int((variety > 1).sum()),
        high_d=[_sum(of_layers) for of_layers in zip(*(layer.high_d for layer in layers), strict=True)],
        unweighted=unweighted_variety(run),
        chance=overall,
        warnings=specificity_warnings(run, settings, specific, overall),
        layers=layers,
        seconds=round(time.perf_counter() - started, 3),
    )


def _count(run: Run, layer: int, assignments: np.ndarray, settings: SpecificitySettings) -> _Layer:
    """Counts of a layer under the labels of the documents, permutations of them, and halves of the documents."""
    activations = layer_activations(run, layer)
    threshold, labels = run.manifest.variety_threshold, len(run.labels)
    active = np.diff(activations.first)
    features = np.flatnonzero(active > 0)
    best = best_labels(activations, assignments, labels, threshold, features)
    permuted = slice(1, 1 + settings.permutations)
    tested = active[features] >= settings.min_active
    return _Layer(
        counts(best.part(slice(0, 1)), settings.min_active),
        counts(best.part(permuted), settings.min_active),
        counts(best.part(slice(permuted.stop, None)), settings.min_active),
        tail(
            features[tested],
            varying_documents(activations)[features[tested]],
            best.d[0, tested],
            best.d[permuted, tested],
            threshold,
        ),
    )


def _sum(layers: Sequence[HighD]) -> HighD:
    features = sum(layer.features for layer in layers)
    single_label = sum(layer.single_label for layer in layers)
    return HighD(
        cutoff=layers[0].cutoff,
        features=features,
        single_label=single_label,
        single_label_share=single_label / features if features else None,
        single_label_at_cutoff=sum(layer.single_label_at_cutoff for layer in layers),
    )
