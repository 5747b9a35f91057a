"""A requested knockout: its settings with defaults filled in, and what it costs."""

from __future__ import annotations

import hashlib
from pathlib import Path

import msgspec

from tegakari.schemas.knockout import KnockoutSettings
from tegakari.service.engine.active_jobs import Knockout
from tegakari.store import Run


def requested_knockout(run: Run, store: Path, settings: KnockoutSettings) -> Knockout:
    """The knockout that settings ask for.

    Args:
        run: published.
        store: the store's directory.
        settings: as they were sent, or resolved.

    Raises:
        NotFoundError: no such label, layer, feature or document.
        QueryError: settings that are incomplete or contradict each other.
    """
    from tegakari.analyses.knockout import cost_of_knockout, knockout_key, resolve

    resolved = resolve(run, settings)
    selection = resolved.documents_of, resolved.documents, resolved.texts, resolved.holdout and resolved.seed
    return Knockout(
        knockout_key(run, resolved),
        store,
        run,
        resolved,
        cost_of_knockout(run, resolved),
        documents=hashlib.sha256(msgspec.json.encode(selection)).hexdigest(),
        size=len(msgspec.json.encode(resolved)),
    )
