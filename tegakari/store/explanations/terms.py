"""Deterministic explanations of a run."""

from __future__ import annotations

from collections.abc import Sequence

from tegakari.schemas.explanations import Explanation
from tegakari.store.reader import Run


def term_explanations(run: Run, layer: int, features: Sequence[int]) -> list[Explanation]:
    """Deterministic explanations of features of a layer, by feature."""
    return []
