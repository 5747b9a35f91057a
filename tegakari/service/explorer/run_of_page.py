"""ETags of the pages of a run, which also depend on the language and on the analyses that are stored."""

from __future__ import annotations

from litestar.types import Scope

from tegakari.schemas.analysis_kinds import ANALYSIS_KINDS
from tegakari.service.explorer.language import language_of
from tegakari.service.http.etags import RunOfRequest
from tegakari.store import Run
from tegakari.store.disk.layout import analyses_directory


class RunOfPage(RunOfRequest):
    """Opens the run of a page; the ETag changes when an analysis is stored or deleted."""

    vary = b"Accept, Accept-Encoding, Accept-Language, Cookie"

    def state_of(self, scope: Scope, run: Run) -> object:
        """The language, whether the reader is signed in, and when analyses were stored last."""
        return language_of(scope), scope["state"].get("key") is not None, _changes(run)


def _changes(run: Run) -> list[int]:
    root = analyses_directory(run.store)
    times = []
    for kind in ANALYSIS_KINDS:
        try:
            times.append((root / kind.name).stat().st_mtime_ns)
        except FileNotFoundError:
            times.append(0)
    return times
