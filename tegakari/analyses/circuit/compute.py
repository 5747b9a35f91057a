"""The circuit of a run's classifier: computed from pairs of documents and stored, or read."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa

from tegakari.analyses.engine.model_loader import ModelLoader
from tegakari.analyses.engine.stored_results import stored_or_computed, stored_result
from tegakari.schemas.analysis_kinds import CIRCUIT_ANALYSIS
from tegakari.schemas.circuit import CircuitResult, CircuitSettings
from tegakari.schemas.progress import NoProgress, Progress
from tegakari.schemas.tables import Table
from tegakari.store import Run
from tegakari.store.queries.circuit import require_last_position


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
        QueryError: the head of the run's classifier does not read the last position.
        NotFoundError: the run has no vectors, no pair qualifies or has a gain, or one document is in all pairs.
        ModelError: the classifier is not a decoder of attention and MLP blocks whose head reads the last position.
        ModelNotHereError: the run's models are not on this machine.
        MemoryShortError: a float32 copy of the weights, or the components of the documents, exceed the free memory.
    """
    require_last_position(run.manifest)

    def compute() -> tuple[CircuitResult, Mapping[Table, pa.Table]]:
        from tegakari.analyses.circuit.measurement import measure_circuit  # loads torch, which stored results need not

        return measure_circuit(run, load_models, settings, progress)

    return stored_or_computed(store, CIRCUIT_ANALYSIS, [run], settings, compute)
