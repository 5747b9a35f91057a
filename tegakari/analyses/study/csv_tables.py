"""Tables of a stored study as CSV files."""

from __future__ import annotations

import csv as text_csv
from collections.abc import Sequence
from pathlib import Path

from pyarrow import csv

from tegakari.analyses.study.pages import Linked
from tegakari.analyses.study.sections import sections
from tegakari.analyses.study.sections.layout import Excerpt, Grid, Value
from tegakari.schemas.analysis import Interval
from tegakari.schemas.analysis_kinds import STUDY_ANALYSIS
from tegakari.schemas.errors import NotFoundError
from tegakari.schemas.study import StudyResult
from tegakari.schemas.tables import CIRCUIT, DIFFERENCES, KNOCKOUTS, VARIANTS
from tegakari.store import Run
from tegakari.store.results import find_analysis

REPORT_TABLES = "report"
"""Directory of the report's tables, within that of the stored ones."""


def write_csv_tables(store: Path, runs: Sequence[Run], study: StudyResult, directory: Path) -> None:
    """Write the tables of a stored study: knockouts.csv, circuit.csv, variants.csv and differences.csv.

    In `report/` are all tables of the report, with values that are not rounded.

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
    of_report = directory / REPORT_TABLES
    of_report.mkdir(exist_ok=True)
    for section in sections(study, runs):
        for grid in section.grids:
            _write_grid(grid, of_report / f"{grid.name}.csv")


def _write_grid(grid: Grid, path: Path) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = text_csv.writer(file, lineterminator="\n")
        columns = [
            _fields(column.name, values)
            for column, values in zip(grid.columns, zip(*grid.rows, strict=True), strict=False)
        ]
        writer.writerow([name for fields in columns for name in fields])
        writer.writerows(zip(*(values for fields in columns for values in fields.values()), strict=True))


def _fields(name: str, values: Sequence[Value]) -> dict[str, list[object]]:
    """Columns of a file for a column of the report: an interval has three, and so has a token with its context."""
    if any(isinstance(value, Interval) for value in values):
        return {
            f"{name} {end}" if end != "value" else name: [getattr(value, end, None) for value in values]
            for end in ("value", "low", "high")
        }
    if any(isinstance(value, Excerpt) for value in values):
        return {part: [getattr(value, part, None) for value in values] for part in Excerpt._fields}
    return {name: [value.text if isinstance(value, Linked) else value for value in values]}
