"""The list of knockouts: those that wait or run, those that ended without a result, and stored results."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import structlog

from tegakari.schemas.analysis_kinds import KNOCKOUT_ANALYSIS
from tegakari.schemas.api import Page
from tegakari.schemas.errors import StoreError
from tegakari.schemas.jobs import JobState, KnockoutJob, KnockoutRow
from tegakari.service.engine.job_states import newest_jobs
from tegakari.store.queries.cursor import read_cursor, write_cursor
from tegakari.store.results import Analysis, stored_analyses

MAX_FILES = 1_000_000
"""Files of jobs that are read; `service.job_bytes` bounds them long before."""

log = structlog.get_logger()


def list_knockouts(
    store: Path,
    current: Mapping[str, KnockoutJob],
    *,
    run: str | None,
    state: JobState | None,
    limit: int,
    cursor: str | None,
) -> Page[KnockoutRow]:
    """Knockouts, the last created first; equal ones by id, descending.

    Args:
        store: the store's directory.
        current: jobs of this process by id; they are newer than what is stored of them.
        run: only knockouts of this run.
        state: only those in this state.
        limit: rows per page.
        cursor: `next` of the page before.

    Raises:
        CursorError: the cursor does not come from a page of this list.
    """
    entries: dict[str, KnockoutJob | Analysis] = {job.id: job for job in newest_jobs(store, MAX_FILES)}
    entries |= {analysis.manifest.key: analysis for analysis in stored_analyses(store, kind=KNOCKOUT_ANALYSIS)}
    entries |= current
    list_ = f"knockouts {run} {state}"
    last = read_cursor(cursor, list_, tuple[str, str]) if cursor else None
    rows: list[KnockoutRow] = []
    places: list[tuple[str, str]] = []
    for place, entry in sorted(((_place(entry), entry) for entry in entries.values()), key=lambda pair: pair[0])[::-1]:
        if (last is not None and place >= last) or run not in (None, _run(entry)) or state not in (None, _state(entry)):
            continue
        if len(rows) == limit:
            return Page(rows, write_cursor(list_, places[-1]))
        try:
            rows.append(_row(entry))
            places.append(place)
        except StoreError as error:  # a damaged result must not hide the others
            log.warning("knockout left out", id=place[1], reason=error.message)
    return Page(rows)


def _place(entry: KnockoutJob | Analysis) -> tuple[str, str]:
    if isinstance(entry, KnockoutJob):
        return entry.created, entry.id
    return entry.manifest.created, entry.manifest.key


def _run(entry: KnockoutJob | Analysis) -> str:
    return entry.run if isinstance(entry, KnockoutJob) else entry.manifest.runs[0].run


def _state(entry: KnockoutJob | Analysis) -> JobState:
    return entry.state if isinstance(entry, KnockoutJob) else "done"


def _row(entry: KnockoutJob | Analysis) -> KnockoutRow:
    if isinstance(entry, KnockoutJob):
        done, total, settings = entry.done, entry.total, entry.settings
    else:
        result = entry.result(KNOCKOUT_ANALYSIS)
        done = total = result.documents
        settings = result.settings
    created, id_ = _place(entry)
    return KnockoutRow(
        id=id_,
        state=_state(entry),
        done=done,
        total=total,
        run=_run(entry),
        label=settings.label,
        layer=settings.layer,
        features=settings.k if settings.features is None else len(settings.features),
        created=created,
    )
