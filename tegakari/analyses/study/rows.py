"""Rows of a study: the tables of its knockouts, circuits, written variants and differences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pyarrow as pa

from tegakari.analyses.circuit.rows import circuit_rows
from tegakari.analyses.knockout.rows import knockout_rows
from tegakari.analyses.variants.rows import variants_rows
from tegakari.schemas.study import Difference, RunStudy
from tegakari.schemas.tables import CIRCUIT, DIFFERENCES, KNOCKOUTS, VARIANTS, Table
from tegakari.store.column_types import arrow_schema


def study_tables(runs: Sequence[RunStudy], differences: Sequence[Difference]) -> Mapping[Table, pa.Table]:
    """The tables KNOCKOUTS, CIRCUIT and VARIANTS, with the rows of all runs, and DIFFERENCES."""
    circuits = [circuit_rows(run.circuit) for run in runs if run.circuit]
    variants = [variants_rows(run.variants) for run in runs if run.variants]
    return {
        KNOCKOUTS: knockout_rows([result for run in runs for result in run.knockouts]),
        CIRCUIT: pa.concat_tables([arrow_schema(CIRCUIT).empty_table(), *circuits]),
        VARIANTS: pa.concat_tables([arrow_schema(VARIANTS).empty_table(), *variants]),
        DIFFERENCES: pa.Table.from_pylist([_row(difference) for difference in differences], arrow_schema(DIFFERENCES)),
    }


def _row(difference: Difference) -> dict[str, object]:
    interval = difference.difference
    return {
        "figure": difference.figure,
        "name": difference.name,
        "a": difference.a,
        "b": difference.b,
        "difference": interval.value,
        "low": interval.low,
        "high": interval.high,
        "over": difference.over,
        "n": difference.n,
        "covers_training": difference.covers_training,
    }
