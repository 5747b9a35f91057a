"""A store: its runs by name, SQL over all of them, and what two of them share."""

# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownParameterType=false, reportUnknownArgumentType=false
# Arrow and pandas ship no types.

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from tegakari.access.html import table
from tegakari.access.rows import Rows
from tegakari.access.run import Run
from tegakari.access.source import Source
from tegakari.schemas.analysis import AnalysisDetail, AnalysisRow
from tegakari.schemas.matching import MatchingResult
from tegakari.schemas.sql import SqlValue
from tegakari.schemas.study import Comparison

if TYPE_CHECKING:
    import pyarrow as pa


class Store(Mapping[str, Run]):
    """Runs by name. Made by `tegakari.open` for a directory and by `tegakari.connect` for a service."""

    def __init__(self, source: Source, place: str) -> None:
        self._source = source
        self._place = place

    def __getitem__(self, name: str) -> Run:
        """A run.

        Raises:
            KeyError: no run of that name.
        """
        if name not in set(self):
            raise KeyError(f"no run {name!r} in {self._place}; runs: {', '.join(self) or 'none'}")
        return Run(self._source, name)

    def __iter__(self) -> Iterator[str]:
        return (summary.run for summary in self._source.runs())

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def sql(
        self, query: str, parameters: dict[str, SqlValue] | None = None, *, runs: list[str] | None = None
    ) -> pa.Table:
        """One SELECT over the tables of the runs (docs/tables.md), each with a `run` column in front.

        Args:
            query: the query; `$name` in it stands for a parameter.
            parameters: their values.
            runs: only these runs; default: all.

        Raises:
            TegakariError: the query is wrong.
        """
        return self._source.sql_table(query, parameters, runs=runs)

    def analyses(self, *, kind: str | None = None) -> Rows[AnalysisRow]:
        """Stored analyses of all runs, newest first."""
        return Rows(f"Analyses of {self._place}", self._source.analyses(kind=kind))

    def analysis(self, id_: str) -> AnalysisDetail:
        """A stored analysis by its id, with its settings and its result."""
        return self._source.analysis(id_)

    def delete_analysis(self, id_: str) -> None:
        """Delete a stored analysis; the same request computes it again."""
        self._source.delete_analysis(id_)

    def compare(self, a: str, b: str, *, analysis: str | None = None) -> Comparison:
        """Figures of two runs and their differences, of the study with the default settings or of an analysis."""
        return self._source.compare(a, b, analysis=analysis)

    def compare_features(self, a: str, b: str) -> MatchingResult:
        """Features that two runs share, and those that only one has."""
        return self._source.compare_features(a, b)

    def __repr__(self) -> str:
        return f"<Store {self._place}: {', '.join(self) or 'no runs'}>"

    def _repr_html_(self) -> str:
        rows = [
            {
                "run": summary.run,
                "documents": summary.corpus.documents,
                "labels": summary.corpus.labels,
                "layers": len(summary.saes.layers),
                "macro-F1": summary.scores.macro_f1,
                "created": summary.created,
            }
            for summary in self._source.runs()
        ]
        return table(f"Runs of {self._place}", rows)
