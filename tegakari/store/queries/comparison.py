"""Figures of two runs side by side, of a stored study."""

from __future__ import annotations

import msgspec

from tegakari.schemas.analysis import Interval
from tegakari.schemas.analysis_kinds import STUDY_ANALYSIS
from tegakari.schemas.errors import NotFoundError
from tegakari.schemas.study import Comparison, Difference, StudyResult
from tegakari.store.reader import Run
from tegakari.store.results import selected_result


def compare(first: Run, second: Run, *, analysis: str | None = None) -> Comparison:
    """Every figure that both runs have, and the differences: second run minus first.

    Args:
        first: a run.
        second: another run of the same store.
        analysis: id of a stored study of the two, in either order; default: that with the default settings.

    Raises:
        NotFoundError: no such study is stored; the fix names those that are.
        StoreError: the study is damaged.
    """
    runs = [first.manifest, second.manifest]
    try:
        return comparison_of_study(selected_result(first.store, STUDY_ANALYSIS, runs, analysis))
    except NotFoundError as missing:
        try:
            turned = selected_result(first.store, STUDY_ANALYSIS, runs[::-1], analysis)
        except NotFoundError as missing_turned:
            # Of the two errors the one that names stored studies helps more.
            raise (missing_turned if missing.field == "runs" else missing) from None
        return comparison_of_study(turned, turn=True)


def comparison_of_study(study: StudyResult, *, turn: bool = False) -> Comparison:
    """The comparison of a study of two runs.

    Args:
        study: of two runs.
        turn: subtract the second run from the first.
    """
    names = [run.run for run in study.runs]
    return Comparison(
        runs=names[::-1] if turn else names,
        labels=study.labels,
        left_out=study.left_out,
        shared_documents=study.shared_documents,
        differences=[_turned(row) for row in study.differences] if turn else study.differences,
    )


def _turned(row: Difference) -> Difference:
    difference = row.difference
    return msgspec.structs.replace(
        row,
        a=row.b,
        b=row.a,
        difference=Interval(value=-difference.value, low=-difference.high, high=-difference.low),
        values=row.values[::-1],
    )
