"""Deterministic explanations of a run."""

from __future__ import annotations

from collections.abc import Sequence

from tegakari.schemas.explanations import Explanation
from tegakari.store.explanations.written import Filters, Key, Written
from tegakari.store.reader import Run


def term_explanations(run: Run, layer: int, features: Sequence[int]) -> list[Explanation]:
    """Deterministic explanations of features of a layer, by feature."""
    return []


def terms_after(
    run: Run, written: Written, last: Key | None, filters: Filters, limit: int
) -> list[tuple[Key, Explanation]]:
    return []
