"""Rows of circuits, for the tables CIRCUIT and CIRCUIT_PAIRS."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from tegakari.schemas.circuit import CircuitResult
from tegakari.schemas.tables import CIRCUIT, CIRCUIT_PAIRS
from tegakari.store import Run
from tegakari.store.column_types import arrow_schema
from tegakari.store.queries.pairs import Pairs


def circuit_rows(result: CircuitResult) -> pa.Table:
    """The table CIRCUIT: a row per component."""
    rows = [
        {
            "run": result.run,
            "layer": component.layer,
            "component": component.component,
            "effect": component.effect.value,
            "effect_low": component.effect.low,
            "effect_high": component.effect.high,
            "study_effect": component.study_effect.value,
            "study_effect_low": component.study_effect.low,
            "study_effect_high": component.study_effect.high,
            "median_effect": component.median_effect,
            "in_circuit": component.in_circuit,
            "in_robust_circuit": component.in_robust_circuit,
            "in_study_circuit": component.in_study_circuit,
        }
        for component in result.components
    ]
    return pa.Table.from_pylist(rows, schema=arrow_schema(CIRCUIT))


def pair_rows(run: Run, pairs: Pairs, gain: np.ndarray) -> pa.Table:
    """The table CIRCUIT_PAIRS: a row per pair.

    Args:
        run: published.
        pairs: of its documents.
        gain: float64 [P], clean minus corrupted logit.
    """
    ids = run.blocks.documents.id
    return pa.table(
        {
            "run": [run.name] * len(gain),
            "clean": ids.take(pa.array(pairs.clean)),
            "corrupted": ids.take(pa.array(pairs.corrupted)),
            "cosine": pairs.cosine,
            "gain": gain.astype(np.float32),
        },
        schema=arrow_schema(CIRCUIT_PAIRS),
    )
