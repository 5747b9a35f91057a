"""Routes that compare two runs: their figures, and the features that they share."""

from __future__ import annotations

from typing import Annotated

from litestar.di import NamedDependency
from litestar.params import QueryParameter

from tegakari.analyses.matching import match_features
from tegakari.schemas.analysis_kinds import STUDY_ANALYSIS
from tegakari.schemas.config import NAME_PATTERN
from tegakari.schemas.errors import NotFoundError
from tegakari.schemas.matching import MatchingResult
from tegakari.schemas.study import Comparison
from tegakari.service.engine.result_cache import cached_per_run
from tegakari.service.http.etags import open_run
from tegakari.service.http.operations import read
from tegakari.store import Run, Store
from tegakari.store.results import stored_analyses

RunPair = Annotated[
    str,
    QueryParameter(
        description="two runs, separated by a comma", pattern=f"^{NAME_PATTERN[1:-1]},{NAME_PATTERN[1:-1]}$"
    ),
]


@read("/compare", "compareRuns", "Two runs side by side", changes=True)
def compare_runs(store: NamedDependency[Store], runs: RunPair) -> Comparison:
    """Every figure that both runs have and the difference with its interval, of the study that was made last."""
    first, second = _open_pair(store, runs)
    names = [first.name, second.name]
    for analysis in stored_analyses(store.directory, kind=STUDY_ANALYSIS, run=second.manifest):
        if [reference.run for reference in analysis.manifest.runs] == names:
            study = analysis.result(STUDY_ANALYSIS)
            return Comparison(
                runs=names,
                labels=study.labels,
                left_out=study.left_out,
                shared_documents=study.shared_documents,
                differences=study.differences,
            )
    raise NotFoundError(
        f"no study of {runs} is stored", field="runs", fix=f"`tegakari study --run {' --run '.join(names)}`"
    )


@read("/compare/features", "compareFeatures", "Features that two runs share", changes=True)
def compare_features(store: NamedDependency[Store], runs: RunPair) -> MatchingResult:
    """Features of two runs matched per layer, and the label-specific ones that only one run has."""
    return _match_features(*_open_pair(store, runs))


def _open_pair(store: Store, names: str) -> tuple[Run, Run]:
    first, second = (open_run(store, name, field="runs") for name in names.split(","))
    return first, second


_match_features = cached_per_run(match_features)

HANDLERS = (compare_runs, compare_features)
