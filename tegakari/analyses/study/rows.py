"""Rows of a study: the tables of its knockouts, circuits and written variants."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pyarrow as pa

from tegakari.analyses.circuit.rows import circuit_rows
from tegakari.analyses.knockout.rows import knockout_rows
from tegakari.analyses.variants.rows import variants_rows
from tegakari.schemas.study import RunStudy
from tegakari.schemas.tables import CIRCUIT, KNOCKOUTS, VARIANTS, Table
from tegakari.store.column_types import arrow_schema


def study_tables(runs: Sequence[RunStudy]) -> Mapping[Table, pa.Table]:
    """The tables KNOCKOUTS, CIRCUIT and VARIANTS, with the rows of all runs."""
    circuits = [circuit_rows(run.circuit) for run in runs if run.circuit]
    return {
        KNOCKOUTS: knockout_rows([result for run in runs for result in run.knockouts]),
        CIRCUIT: pa.concat_tables([arrow_schema(CIRCUIT).empty_table(), *circuits]),
        VARIANTS: pa.concat_tables([variants_rows(run.variants) for run in runs]),
    }
