"""The routes of the study's tables: computed at once where the store suffices, read where a model was needed."""

from __future__ import annotations

from functools import lru_cache
from typing import Annotated

from litestar import get
from litestar.datastructures import CacheControlHeader
from litestar.di import NamedDependency
from litestar.params import QueryParameter

from tegakari.analyses.classification import classification
from tegakari.analyses.cues import feature_cues, label_cues
from tegakari.analyses.matching import match_features
from tegakari.analyses.sparsity import sparsity
from tegakari.schemas.analysis_kinds import CIRCUIT_ANALYSIS, STUDY_ANALYSIS, VARIANTS_ANALYSIS
from tegakari.schemas.circuit import CircuitResult
from tegakari.schemas.config import NAME_PATTERN
from tegakari.schemas.errors import NotFoundError
from tegakari.schemas.matching import MatchingResult
from tegakari.schemas.study import ClassificationResult, Comparison, FeatureCues, LabelCues, SparsityResult
from tegakari.schemas.variants import VariantsResult
from tegakari.service.http.etags import open_run
from tegakari.service.http.parameters import FeatureNumber, LayerNumber, OnlyLayer
from tegakari.service.http.problems import documented
from tegakari.store import Run, Store
from tegakari.store.results import stored_analyses

# Analyses can be made, and made anew, after their run was published.
_ASK_AGAIN = CacheControlHeader(no_cache=True)

_REMEMBERED = 32
"""runs whose tables are computed once"""

AskedLabel = Annotated[str, QueryParameter(description="label of the run", min_length=1, max_length=1000)]
FeaturesOfLabel = Annotated[int, QueryParameter(description="features with the largest d", ge=1, le=1000)]
TwoRuns = Annotated[
    str,
    QueryParameter(
        description="two runs, separated by a comma", pattern=f"^{NAME_PATTERN[1:-1]},{NAME_PATTERN[1:-1]}$"
    ),
]


@get(
    "/classification",
    operation_id="getClassification",
    summary="Scores of the classifier",
    responses=documented(400, 404, 500),
    sync_to_thread=True,
)
def get_classification(opened: NamedDependency[Run]) -> ClassificationResult:
    """Macro-F1 and accuracy on the evaluation documents, with intervals, beside the baseline."""
    return _classification(opened)


@get(
    "/sparsity",
    operation_id="getSparsity",
    summary="Active features",
    responses=documented(400, 404, 500),
    sync_to_thread=True,
)
def get_sparsity(opened: NamedDependency[Run]) -> SparsityResult:
    """How many features are active in a document and how much the 20 strongest carry, layer by layer."""
    return _sparsity(opened)


@get(
    "/cues", operation_id="getCues", summary="Cues of a label", responses=documented(400, 404, 500), sync_to_thread=True
)
def get_cues(
    opened: NamedDependency[Run], label: AskedLabel, layer: OnlyLayer = None, k: FeaturesOfLabel = 20
) -> LabelCues:
    """Which tokens the label's features fire on, and how various they are."""
    return label_cues(opened, label, layer=layer, k=k)


@get(
    "/layers/{layer:str}/features/{feature:str}/cues",
    operation_id="getFeatureCues",
    summary="Cues of a feature",
    responses=documented(400, 404, 500),
    sync_to_thread=True,
)
def get_feature_cues(opened: NamedDependency[Run], layer: LayerNumber, feature: FeatureNumber) -> FeatureCues:
    """Which tokens a feature fires on with at least half its maximum; 404 for one that never fires."""
    found = feature_cues(opened, layer, feature)
    if found is None:
        raise NotFoundError(f"feature {feature} of layer {layer} never fires", field="feature", fix="choose another")
    return found


@get(
    "/circuit",
    operation_id="getCircuit",
    summary="The circuit",
    responses=documented(400, 404, 500),
    cache_control=_ASK_AGAIN,
    sync_to_thread=True,
)
def get_circuit(opened: NamedDependency[Run], store: NamedDependency[Store]) -> CircuitResult:
    """Effects of attention and MLP of each layer, sufficiency and necessity: the circuit that was computed last."""
    for analysis in stored_analyses(store.directory, kind=CIRCUIT_ANALYSIS, run=opened.manifest):
        return analysis.result(CIRCUIT_ANALYSIS)
    raise NotFoundError(
        f"no circuit of run {opened.name!r} was computed", field="run", fix=f"`tegakari circuit --runs {opened.name}`"
    )


@get(
    "/variants",
    operation_id="getVariants",
    summary="Written variants",
    responses=documented(400, 404, 500),
    cache_control=_ASK_AGAIN,
    sync_to_thread=True,
)
def get_variants(opened: NamedDependency[Run], store: NamedDependency[Store]) -> VariantsResult:
    """How much of a written form's features remains without those of another form, as it was measured last."""
    for analysis in stored_analyses(store.directory, kind=VARIANTS_ANALYSIS, run=opened.manifest):
        return analysis.result(VARIANTS_ANALYSIS)
    raise NotFoundError(
        f"no variants were measured in run {opened.name!r}",
        field="run",
        fix=f"`tegakari variants --runs {opened.name}`",
    )


@get(
    "/compare",
    operation_id="compareRuns",
    summary="Two runs side by side",
    responses=documented(400, 404, 500),
    cache_control=_ASK_AGAIN,
    sync_to_thread=True,
)
def compare_runs(store: NamedDependency[Store], runs: TwoRuns) -> Comparison:
    """Every figure that both runs have and the difference with its interval, of the study that was made last."""
    opened = [open_run(store, name, field="runs") for name in runs.split(",")]
    for analysis in stored_analyses(store.directory, kind=STUDY_ANALYSIS, run=opened[1].manifest):
        if [each.run for each in analysis.manifest.runs] == [run.name for run in opened]:
            found = analysis.result(STUDY_ANALYSIS)
            return Comparison(
                runs=[run.name for run in opened],
                labels=found.labels,
                left_out=found.left_out,
                shared_documents=found.shared_documents,
                differences=found.differences,
            )
    raise NotFoundError(f"no study of {runs} was made", field="runs", fix=f"`tegakari study --runs {runs}`")


@get(
    "/compare/features",
    operation_id="compareFeatures",
    summary="Features that two runs share",
    responses=documented(400, 404, 500),
    cache_control=_ASK_AGAIN,
    sync_to_thread=True,
)
def compare_features(store: NamedDependency[Store], runs: TwoRuns) -> MatchingResult:
    """Features of two runs matched layer by layer, and the label-specific ones that only one run has."""
    return _matching(*(open_run(store, name, field="runs") for name in runs.split(",")))


@lru_cache(maxsize=_REMEMBERED)
def _matching(a: Run, b: Run) -> MatchingResult:
    return match_features(a, b)


@lru_cache(maxsize=_REMEMBERED)
def _classification(run: Run) -> ClassificationResult:
    return classification(run)


@lru_cache(maxsize=_REMEMBERED)
def _sparsity(run: Run) -> SparsityResult:
    return sparsity(run)


OF_A_RUN = (get_classification, get_sparsity, get_cues, get_feature_cues, get_circuit, get_variants)
HANDLERS = (compare_runs, compare_features)
