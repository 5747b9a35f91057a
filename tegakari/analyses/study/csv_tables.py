"""Tables of a stored study as CSV files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pyarrow import csv

from tegakari.schemas.analysis_kinds import STUDY_ANALYSIS
from tegakari.schemas.errors import NotFoundError
from tegakari.schemas.study import StudyResult
from tegakari.schemas.tables import CIRCUIT, DIFFERENCES, KNOCKOUTS, VARIANTS
from tegakari.store import Run
from tegakari.store.results import find_analysis


def write_csv_tables(store: Path, runs: Sequence[Run], study: StudyResult, directory: Path) -> None:
    """Write the tables of a stored study: knockouts.csv, circuit.csv, variants.csv and differences.csv.

    Args:
        store: the store's directory.
        runs: of the study.
        study: of these runs.
        directory: created if it does not exist.

    Raises:
        NotFoundError: the study is not stored.
    """
    analysis = find_analysis(store, STUDY_ANALYSIS, [run.manifest for run in runs], study.settings)
    if analysis is None:
        raise NotFoundError("no such study is stored", field="--tables", fix="run the study with these settings first")
    directory.mkdir(parents=True, exist_ok=True)
    for table in (KNOCKOUTS, CIRCUIT, VARIANTS, DIFFERENCES):
        csv.write_csv(analysis.table(table), directory / f"{table.name}.csv")
