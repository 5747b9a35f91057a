"""The tables of a stored study, for spreadsheets."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pyarrow import csv

from tegakari.schemas.analysis_kinds import STUDY_ANALYSIS
from tegakari.schemas.errors import NotFoundError
from tegakari.schemas.study import StudySettings
from tegakari.schemas.tables import CIRCUIT, KNOCKOUTS, VARIANTS
from tegakari.store import Run
from tegakari.store.results import find_analysis


def write_tables(store: Path, runs: Sequence[Run], settings: StudySettings, directory: Path) -> None:
    """Write each table of a study as CSV.

    Raises:
        NotFoundError: the study was not made.
    """
    found = find_analysis(store, STUDY_ANALYSIS, [run.manifest for run in runs], settings)
    if found is None:
        raise NotFoundError("this study was not made", field="--tables", fix="make it first")
    directory.mkdir(parents=True, exist_ok=True)
    for table in (KNOCKOUTS, CIRCUIT, VARIANTS):
        csv.write_csv(found.table(table), directory / f"{table.name}.csv")
