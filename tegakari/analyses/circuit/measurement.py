"""Measurement of a circuit: effects of components over pairs of documents, and accuracies without components."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pyarrow as pa

from tegakari.analyses.circuit.effects import MIN_STUDY_GAIN, SMALL_GAIN, Effects
from tegakari.analyses.circuit.forward import LabelledTexts, ablation_accuracies, pair_effects, rounding_change
from tegakari.analyses.circuit.outcome import (
    ablated,
    component_effects,
    estimator_of,
    largest_shift,
    layer_bands,
    members,
    ratio_warning,
    total_effect,
)
from tegakari.analyses.circuit.rows import circuit_rows, pair_rows
from tegakari.analyses.engine.memory import refuse_beyond_memory
from tegakari.analyses.engine.model_loader import ModelLoader
from tegakari.analyses.engine.provenance import provenance_of
from tegakari.models.classifier import Classifier
from tegakari.models.precision import float32_bytes, float32_copy, float32_products
from tegakari.models.rerun.components import check_decoder
from tegakari.schemas.circuit import CircuitResult, CircuitSettings
from tegakari.schemas.errors import NotFoundError
from tegakari.schemas.progress import Progress
from tegakari.schemas.tables import CIRCUIT, CIRCUIT_PAIRS, Table
from tegakari.store import Run
from tegakari.store.queries.pairs import Pairs, similar_pairs
from tegakari.store.queries.runs import evaluation_documents

ROUNDING_SAMPLE = 8
"""Documents, or pairs, on which the noise of rounding is measured."""


@float32_products(tf32=False)  # a threshold on effects is of the size of TF32's rounding
def measure_circuit(
    run: Run, load_models: ModelLoader, settings: CircuitSettings, progress: Progress
) -> tuple[CircuitResult, Mapping[Table, pa.Table]]:
    """The circuit of a run, and its tables; arguments and errors as of `circuit`."""
    started = time.perf_counter()
    models = load_models()
    check_decoder(models.classifier)
    pairs = similar_pairs(run, min_cosine=settings.min_cosine, n=settings.pairs, seed=settings.seed)
    if not len(pairs.clean):
        raise NotFoundError(
            f"no two of {pairs.correct} correctly predicted documents with different labels have cosine "
            f">= {settings.min_cosine}",
            field="min_cosine",
            fix="lower it",
        )
    sample = _sample(run, settings)
    classifier = models.classifier
    refuse_beyond_memory(
        float32_bytes(classifier), classifier.device, "effects are computed in float32: use a device with more memory"
    )
    float32_models = replace(models, classifier=float32_copy(classifier))
    documents = run.blocks.documents
    passes = len(np.unique(pairs.clean)) + len(np.unique(pairs.corrupted)) + 2 * len(sample)
    progress.stage(f"{run.name}: circuit", passes)
    effects = pair_effects(float32_models.classifier, documents, pairs, progress)
    _check_pairs(effects, pairs, settings)
    components = component_effects(effects, pairs, settings)
    in_circuit, estimator = members(components), estimator_of(effects, settings)
    accuracies = ablation_accuracies(float32_models.classifier, documents, sample, in_circuit, progress)
    median_gain = float(np.median(effects.gain[effects.reaches(settings.min_gain)]))
    result = CircuitResult(
        run=run.name,
        settings=settings,
        layers=classifier.layers,
        pairs=len(pairs.clean),
        pair_documents=len(np.union1d(pairs.clean, pairs.corrupted)),
        qualifying=pairs.qualifying,
        correct=pairs.correct,
        labels_without=_labels_without_correct_document(run),
        spread=effects.spread,
        no_gain=int((effects.gain < MIN_STUDY_GAIN).sum()),
        small_gain=int((np.abs(effects.gain) < SMALL_GAIN).sum()),
        below_min_gain=int((~effects.reaches(settings.min_gain)).sum()),
        largest_shift=largest_shift(effects, settings.min_gain),
        warning=ratio_warning(effects, components, settings),
        components=components,
        total=total_effect(estimator, in_circuit, pairs, settings.seed),
        bands=layer_bands(estimator, in_circuit, pairs, settings.seed),
        documents=len(sample),
        accuracy=float(accuracies.full.mean()),
        ablated=[ablated("mean", accuracies), ablated("zero", accuracies)],
        rounding=rounding_change(float32_models.classifier, documents, np.unique(pairs.corrupted)[:ROUNDING_SAMPLE])
        / median_gain,
        run_dtype_rounding=None
        if classifier is float32_models.classifier
        else _change_difference(classifier, documents, pairs, effects) / median_gain,
        seconds=round(time.perf_counter() - started, 3),
        provenance=provenance_of(run, float32_models),
    )
    return result, {CIRCUIT: circuit_rows(result), CIRCUIT_PAIRS: pair_rows(run, pairs, effects.gain)}


def _change_difference(classifier: Classifier, documents: LabelledTexts, pairs: Pairs, effects: Effects) -> float:
    """Largest difference of a change in the dtype of a run from the same in float32, over the first pairs."""
    first = pairs._replace(clean=pairs.clean[:ROUNDING_SAMPLE], corrupted=pairs.corrupted[:ROUNDING_SAMPLE])
    change = pair_effects(classifier, documents, first).change
    return float(np.abs(change - effects.change[:ROUNDING_SAMPLE]).max())


def _check_pairs(effects: Effects, pairs: Pairs, settings: CircuitSettings) -> None:
    """Refuse pairs without a gain, and pairs that all share one document, which have no interval."""
    reaching = effects.reaches(settings.min_gain)
    if not reaching.any():
        raise NotFoundError(
            f"none of {len(reaching)} pairs has a gain of {settings.min_gain} standard deviations of the logits",
            field="min_gain",
            fix="lower it, or lower min_cosine",
        )
    documents = np.concatenate((pairs.clean[reaching], pairs.corrupted[reaching]))
    if np.bincount(documents).max() == reaching.sum():
        raise NotFoundError(
            f"one document is in all {reaching.sum()} pairs, so the effects have no interval",
            field="min_cosine",
            fix="lower it, so that more documents are in pairs",
        )


def _sample(run: Run, settings: CircuitSettings) -> np.ndarray:
    """Numbers of the evaluation documents for sufficiency and necessity, int64, ascending."""
    numbers = evaluation_documents(run)
    if len(numbers) <= settings.documents:
        return numbers
    return np.sort(np.random.default_rng(settings.seed).choice(numbers, settings.documents, replace=False))


def _labels_without_correct_document(run: Run) -> list[str]:
    label = np.asarray(run.blocks.documents.label_id)
    correct = label == np.asarray(run.blocks.documents.predicted_id)
    return [run.labels[number] for number in sorted(set(label.tolist()) - set(label[correct].tolist()))]
