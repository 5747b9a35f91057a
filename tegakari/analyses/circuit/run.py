"""The circuit of a run: effects over pairs of documents, and what is left without it."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pyarrow as pa

from tegakari.analyses.circuit.forward import ablation_accuracies, pair_effects
from tegakari.analyses.engine.provenance import provenance_of
from tegakari.analyses.engine.run_models import ModelLoader
from tegakari.analyses.statistics import mean_interval, statistic_interval
from tegakari.models.rerun.components import COMPONENTS
from tegakari.schemas.analysis import Interval
from tegakari.schemas.circuit import Ablated, Band, CircuitResult, CircuitSettings, ComponentEffect
from tegakari.schemas.errors import NotFoundError
from tegakari.schemas.progress import NoProgress, Progress
from tegakari.schemas.tables import CIRCUIT, CIRCUIT_PAIRS
from tegakari.store import Run
from tegakari.store.queries.pairs import Pairs, similar_pairs
from tegakari.store.queries.runs import evaluation_documents
from tegakari.store.results import find_analysis, publish_analysis
from tegakari.store.versions import recorded_versions

KIND = "circuit"


def stored_circuit(store: Path, run: Run, settings: CircuitSettings) -> CircuitResult | None:
    """The answer, if the same was asked before."""
    found = find_analysis(store, KIND, [run.manifest], settings)
    return found.result(CircuitResult) if found else None


def circuit(
    store: Path, run: Run, load: ModelLoader, settings: CircuitSettings, *, progress: Progress = NoProgress()
) -> CircuitResult:
    """Find the circuit of a run's classifier and store it; one that is stored is read.

    Args:
        store: the store's directory.
        run: published, with vectors.
        load: gives the run's models, if they are needed.
        settings: which pairs, and what counts.
        progress: counts passes of documents.

    Raises:
        NotFoundError: a run without vectors, or no pair of documents qualifies.
        ModelError: the classifier is not a decoder of attention and MLP blocks whose head reads the last position.
        ModelNotHereError: the models are not on this machine.
        MemoryShortError: there is not memory enough.
    """
    stored = stored_circuit(store, run, settings)
    if stored:
        return stored
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
    models = load()
    passes = len(np.unique(pairs.clean)) + len(np.unique(pairs.corrupted)) + 2 * len(sample)
    progress.stage(f"{run.name}: circuit", passes)
    found = pair_effects(run, models, pairs, progress)
    chosen = found.values.mean(0) >= settings.threshold
    accuracies = ablation_accuracies(run, models, sample, chosen, progress)
    known = run.blocks.documents
    correct = np.asarray(known.label_id) == np.asarray(known.predicted_id)
    there, some = (set(np.asarray(known.label_id)[rows].tolist()) for rows in (slice(None), correct))
    result = CircuitResult(
        run=run.name,
        settings=settings,
        layers=models.classifier.layers,
        pairs=len(pairs.clean),
        qualifying=pairs.found,
        correct=pairs.correct,
        labels_without=[run.labels[label] for label in sorted(there - some)],
        no_gain=found.no_gain,
        components=_components(found.values, chosen, settings.seed),
        total=_total(found.values, chosen, settings.seed),
        bands=_bands(found.values, chosen, settings.seed),
        documents=len(sample),
        accuracy=float(accuracies.full.mean()),
        ablated=[_ablated(by, accuracies.full, *accuracies.of(by), settings.seed) for by in ("mean", "zero")],
        seconds=round(time.perf_counter() - started, 3),
        provenance=provenance_of(run, models),
    )
    publish_analysis(
        store,
        KIND,
        [run.manifest],
        settings,
        result,
        {CIRCUIT: circuit_rows(result), CIRCUIT_PAIRS: _pair_rows(run, pairs, found.gained)},
        seconds=result.seconds,
        versions=recorded_versions(),
    )
    return result


def _sample(run: Run, settings: CircuitSettings) -> np.ndarray:
    numbers = evaluation_documents(run)
    if len(numbers) <= settings.documents:
        return numbers
    return np.sort(np.random.default_rng(settings.seed).choice(numbers, settings.documents, replace=False))


def _components(effects: np.ndarray, chosen: np.ndarray, seed: int) -> list[ComponentEffect]:
    return [
        ComponentEffect(
            layer=layer,
            component=component,
            effect=_mean(effects[:, layer, number], seed),
            in_circuit=bool(chosen[layer, number]),
        )
        for layer in range(effects.shape[1])
        for number, component in enumerate(COMPONENTS)
    ]


def _total(effects: np.ndarray, chosen: np.ndarray, seed: int) -> Interval:
    return _mean((effects * chosen).sum((1, 2)), seed)


def _bands(effects: np.ndarray, chosen: np.ndarray, seed: int) -> list[Band]:
    layers = effects.shape[1]
    edges = [round(layers * third / 3) for third in range(4)]
    of_layer = (effects * chosen).sum(2)  # [P, layers]
    bands = []
    for name, first, stop in zip(("early", "middle", "late"), edges, edges[1:], strict=False):

        def share(rows: np.ndarray, first: int = first, stop: int = stop) -> float:
            means = of_layer[rows].mean(0)
            return float(means[first:stop].sum() / means.sum()) if means.sum() else float("nan")

        every = np.arange(len(effects))
        interval = None
        if chosen.any():
            low, high = statistic_interval(share, len(effects), seed)
            interval = Interval(value=share(every), low=low, high=high)
        bands.append(
            Band(
                band=name,
                first=first,
                last=stop - 1,
                components=int(chosen[first:stop].sum()),
                share=interval,
            )
        )
    return bands


def _ablated(by: str, full: np.ndarray, kept: np.ndarray, removed: np.ndarray, seed: int) -> Ablated:
    """Of whether each document is predicted correctly, bool [D], by the whole classifier and the two ablated ones."""

    def ratio(rows: np.ndarray) -> float:
        return float(kept[rows].mean() / full[rows].mean()) if full[rows].any() else float("nan")

    sufficiency = None
    if full.any():
        low, high = statistic_interval(ratio, len(full), seed)
        sufficiency = Interval(value=ratio(np.arange(len(full))), low=low, high=high)
    return Ablated(
        by="mean" if by == "mean" else "zero",
        accuracy_kept=float(kept.mean()),
        accuracy_removed=float(removed.mean()),
        sufficiency=sufficiency,
        necessity=_mean(full.astype(float) - removed, seed),
    )


def _mean(values: np.ndarray, seed: int) -> Interval:
    low, high = mean_interval(values, seed)
    return Interval(value=float(values.mean()), low=low, high=high)


def circuit_rows(result: CircuitResult) -> pa.Table:
    """The table CIRCUIT."""
    rows = [
        {
            "run": result.run,
            "layer": each.layer,
            "component": each.component,
            "effect": each.effect.value,
            "effect_low": each.effect.low,
            "effect_high": each.effect.high,
            "in_circuit": each.in_circuit,
        }
        for each in result.components
    ]
    return pa.Table.from_pylist(rows, schema=CIRCUIT.schema)


def _pair_rows(run: Run, pairs: Pairs, gained: np.ndarray) -> pa.Table:
    ids = run.blocks.documents.id
    return pa.table(
        {
            "run": [run.name] * len(gained),
            "clean": ids.take(pa.array(pairs.clean)),
            "corrupted": ids.take(pa.array(pairs.corrupted)),
            "cosine": pairs.cosine,
            "gained": gained,
        },
        schema=CIRCUIT_PAIRS.schema,
    )
