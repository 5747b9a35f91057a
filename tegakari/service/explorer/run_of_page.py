"""ETags of the pages of a run, which also depend on the reader, and on analyses, notes and explanations."""

from __future__ import annotations

from litestar.types import Scope

from tegakari.schemas.analysis_kinds import ANALYSIS_KINDS
from tegakari.service.explorer.language import language_of
from tegakari.service.explorer.page import POLICY
from tegakari.service.http.etags import RunOfRequest
from tegakari.store import Run
from tegakari.store.disk.layout import (
    additions_directory,
    analyses_directory,
    explanations_directory,
    notes_directory,
)
from tegakari.store.explanations.log_file import FILE as LOG


class RunOfPage(RunOfRequest):
    """Opens the run of a page; the ETag changes with what is stored beside it, so that browsers send it each time."""

    cache_control = "private, no-cache"
    vary = b"Accept, Accept-Encoding, Accept-Language, Cookie"
    headers = ((b"content-security-policy", POLICY.encode()),)

    def state_of(self, scope: Scope, run: Run) -> object:
        """The language, under which name the reader is signed in, and when what is stored beside the run changed."""
        key = scope["state"].get("key")
        return language_of(scope), key and key.name, _changes(run)


def _changes(run: Run) -> list[int]:
    root = analyses_directory(run.store)
    times: list[int] = []
    for directory in (
        *(root / kind.name for kind in ANALYSIS_KINDS),
        notes_directory(run.store, run.manifest),
        explanations_directory(run.store, run.manifest) / LOG,
        additions_directory(run.store, run.manifest),
    ):
        try:
            times.append(directory.stat().st_mtime_ns)
        except FileNotFoundError:
            times.append(0)
    return times
