"""Routes that compare two runs: their figures, and the features that they share."""

from __future__ import annotations

from typing import Annotated

from litestar.di import NamedDependency
from litestar.params import QueryParameter

from tegakari.analyses.matching import match_features
from tegakari.schemas.config import NAME_PATTERN
from tegakari.schemas.matching import MatchingResult
from tegakari.schemas.study import Comparison
from tegakari.service.engine.result_cache import cached_per_run
from tegakari.service.http.etags import open_run
from tegakari.service.http.operations import read
from tegakari.service.http.parameters import SelectedAnalysis
from tegakari.store import Run, Store, queries

RunPair = Annotated[
    str,
    QueryParameter(
        description="two runs, separated by a comma", pattern=f"^{NAME_PATTERN[1:-1]},{NAME_PATTERN[1:-1]}$"
    ),
]


@read("/compare", "compareRuns", "Two runs side by side", changes=True)
def compare_runs(store: NamedDependency[Store], runs: RunPair, analysis: SelectedAnalysis = None) -> Comparison:
    """Every figure that both runs have and the difference with its interval: second run minus first.

    The figures are of the stored study of both runs with the default settings, or of the one that `analysis` selects.
    """
    return queries.compare(*_open_pair(store, runs), analysis=analysis)


@read("/compare/features", "compareFeatures", "Features that two runs share", changes=True)
def compare_features(store: NamedDependency[Store], runs: RunPair) -> MatchingResult:
    """Features of two runs matched per layer, and the label-specific ones that only one run has."""
    return _match_features(*_open_pair(store, runs))


def _open_pair(store: Store, names: str) -> tuple[Run, Run]:
    first, second = (open_run(store, name, field="runs") for name in names.split(","))
    return first, second


_match_features = cached_per_run(match_features)

HANDLERS = (compare_runs, compare_features)
