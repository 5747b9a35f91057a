"""Queries about stored analyses."""

from __future__ import annotations

import msgspec
import structlog

from tegakari.schemas.analysis import AnalysisDetail, AnalysisRow
from tegakari.schemas.analysis_kinds import ANALYSIS_KINDS, kind_named
from tegakari.schemas.api import Page
from tegakari.schemas.errors import QueryError, StoreError
from tegakari.store.analysis_rows import analysis_row, runs_of
from tegakari.store.queries.cursor import read_cursor, write_cursor
from tegakari.store.queries.parameters import check_limit
from tegakari.store.reader import Run, Store
from tegakari.store.results import Analysis, analysis_with_id, stored_analyses

log = structlog.get_logger()


def analyses(
    store: Store, *, run: Run | None = None, kind: str | None = None, limit: int = 100, cursor: str | None = None
) -> Page[AnalysisRow]:
    """Stored analyses of the published runs, newest first.

    Args:
        store: the store.
        run: only analyses that are computed from this run.
        kind: only analyses of this kind.
        limit: rows per page.
        cursor: `next` of the page before.

    Raises:
        QueryError: there is no such kind, or the limit is out of range.
        CursorError: the cursor does not come from a page of this list.
    """
    check_limit(limit)
    chosen_kind = None if kind is None else kind_named(kind)
    if kind is not None and chosen_kind is None:
        names = ", ".join(known.name for known in ANALYSIS_KINDS)
        raise QueryError(f"{kind!r} is not a kind of analysis", field="kind", fix=f"use one of: {names}")
    list_ = f"analyses {run.manifest.fingerprint[:16] if run else ''} {kind or ''}"
    last = read_cursor(cursor, list_, tuple[str, str]) if cursor else None
    published = {opened.name: opened.manifest for opened in store.runs()}
    found = [
        analysis
        for analysis in stored_analyses(store.directory, kind=chosen_kind, run=run.manifest if run else None)
        if runs_of(analysis, published) and (last is None or _place(analysis) < last)
    ]
    found.sort(key=_place, reverse=True)
    rows: list[AnalysisRow] = []
    place = last
    for analysis in found:
        if len(rows) == limit:
            assert place is not None
            return Page(rows, write_cursor(list_, place))
        place = _place(analysis)
        try:
            rows.append(analysis_row(analysis, published))
        except StoreError as error:  # a damaged analysis must not hide the others
            log.warning("analysis left out", kind=analysis.manifest.kind, key=place[1], reason=error.message)
    return Page(rows)


def analysis(store: Store, id_: str) -> AnalysisDetail:
    """A stored analysis, with its settings and its result.

    Raises:
        NotFoundError: no analysis has the id.
        StoreError: it is damaged.
    """
    stored = analysis_with_id(store.directory, id_)
    published = {opened.name: opened.manifest for opened in store.runs()}
    return AnalysisDetail(
        **msgspec.structs.asdict(analysis_row(stored, published)),
        versions=stored.manifest.versions,
        settings=stored.settings_object(),
        result=stored.result_object(),
    )


def _place(analysis: Analysis) -> tuple[str, str]:
    """Position in the list, which is in descending order."""
    return analysis.manifest.created, analysis.manifest.key
