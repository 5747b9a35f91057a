"""The circuit of a run's classifier: computed from pairs of documents and stored, or read."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa

from tegakari.analyses.circuit.forward import ablation_accuracies, pair_effects
from tegakari.analyses.circuit.outcome import ablated, component_effects, layer_bands, total_effect
from tegakari.analyses.circuit.rows import circuit_rows, pair_rows
from tegakari.analyses.engine.provenance import provenance_of
from tegakari.analyses.engine.run_models import ModelLoader
from tegakari.analyses.engine.stored_results import stored_or_computed, stored_result
from tegakari.schemas.analysis_kinds import CIRCUIT_ANALYSIS
from tegakari.schemas.circuit import CircuitResult, CircuitSettings
from tegakari.schemas.errors import NotFoundError
from tegakari.schemas.progress import NoProgress, Progress
from tegakari.schemas.tables import CIRCUIT, CIRCUIT_PAIRS, Table
from tegakari.store import Run
from tegakari.store.queries.pairs import similar_pairs
from tegakari.store.queries.runs import evaluation_documents


def stored_circuit(store: Path, run: Run, settings: CircuitSettings) -> CircuitResult | None:
    """Stored circuit of a run; None if it was never computed with these settings."""
    return stored_result(store, CIRCUIT_ANALYSIS, [run], settings)


def circuit(
    store: Path, run: Run, load_models: ModelLoader, settings: CircuitSettings, *, progress: Progress = NoProgress()
) -> CircuitResult:
    """Find the circuit of a run's classifier and store it; a stored one is read.

    Args:
        store: the store's directory.
        run: published, with vectors.
        load_models: called if the result is not stored.
        settings: of pairs and thresholds.
        progress: counts documents of all forward passes.

    Raises:
        NotFoundError: the run has no vectors, or no pair of documents qualifies.
        ModelError: the classifier is not a decoder of attention and MLP blocks whose head reads the last position.
        ModelNotHereError: the run's models are not on this machine.
        MemoryShortError: it would take more memory than is free.
    """
    return stored_or_computed(
        store,
        CIRCUIT_ANALYSIS,
        [run],
        settings,
        lambda: _compute(run, load_models, settings, progress),
    )


def _compute(
    run: Run, load_models: ModelLoader, settings: CircuitSettings, progress: Progress
) -> tuple[CircuitResult, Mapping[Table, pa.Table]]:
    started = time.perf_counter()
    pairs = similar_pairs(run, min_cosine=settings.min_cosine, n=settings.pairs, seed=settings.seed)
    if not len(pairs.clean):
        raise NotFoundError(
            f"no two of {pairs.correct} correctly predicted documents with different labels have cosine "
            f">= {settings.min_cosine}",
            field="min_cosine",
            fix="lower it",
        )
    sample = _sample(run, settings)
    models = load_models()
    passes = len(np.unique(pairs.clean)) + len(np.unique(pairs.corrupted)) + 2 * len(sample)
    progress.stage(f"{run.name}: circuit", passes)
    effects = pair_effects(run, models, pairs, progress)
    in_circuit = effects.values.mean(0) >= settings.threshold
    accuracies = ablation_accuracies(run, models, sample, in_circuit, progress)
    result = CircuitResult(
        run=run.name,
        settings=settings,
        layers=models.classifier.layers,
        pairs=len(pairs.clean),
        qualifying=pairs.qualifying,
        correct=pairs.correct,
        labels_without=_labels_without_correct_document(run),
        no_gain=effects.no_gain,
        components=component_effects(effects.values, in_circuit, settings.seed),
        total=total_effect(effects.values, in_circuit, settings.seed),
        bands=layer_bands(effects.values, in_circuit, settings.seed),
        documents=len(sample),
        accuracy=float(accuracies.full.mean()),
        ablated=[ablated("mean", accuracies, settings.seed), ablated("zero", accuracies, settings.seed)],
        seconds=round(time.perf_counter() - started, 3),
        provenance=provenance_of(run, models),
    )
    return result, {CIRCUIT: circuit_rows(result), CIRCUIT_PAIRS: pair_rows(run, pairs, effects.gain)}


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
