"""Knockouts of a run: stored results are read; the others are computed, with shared passes, and stored."""

from __future__ import annotations

import errno
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import structlog

from tegakari.analyses.engine.model_loader import ModelLoader
from tegakari.analyses.engine.provenance import provenance_of
from tegakari.analyses.engine.stored_results import stored_result
from tegakari.analyses.knockout.controls import Controls, draw_controls
from tegakari.analyses.knockout.outcome import Outcome
from tegakari.analyses.knockout.sae_quality import sae_qualities
from tegakari.analyses.knockout.settings import Targets, ablated_features, resolve, targets_of
from tegakari.schemas.analysis_kinds import KNOCKOUT_ANALYSIS
from tegakari.schemas.knockout import (
    KnockoutResult,
    KnockoutSettings,
    LayerFeature,
    RemovedFeature,
    SaeQuality,
    Timings,
)
from tegakari.schemas.progress import NoProgress, OnStep, Progress
from tegakari.store import Run
from tegakari.store.results import analysis_key, publish_analysis

if TYPE_CHECKING:
    from tegakari.analyses.engine.run_models import RunModels
    from tegakari.analyses.knockout.forward import FeatureAblation, Logits

MAX_KNOCKOUTS_PER_GROUP = 32
"""Knockouts that share forward passes and are stored after them: as much is lost if the process is killed."""

MAX_LOGITS_PER_GROUP = 2**26
"""Logits of the knockouts that share forward passes."""

log = structlog.get_logger()


def knockout_key(run: Run, settings: KnockoutSettings) -> str:
    """Key of a knockout's stored result.

    Args:
        run: published.
        settings: from `resolve`.
    """
    return analysis_key(KNOCKOUT_ANALYSIS, [run.manifest], settings)


def stored_knockout(store: Path, run: Run, settings: KnockoutSettings) -> KnockoutResult | None:
    """Stored result of a knockout; None if it was never computed.

    Args:
        store: the store's directory.
        run: published.
        settings: from `resolve`.
    """
    return stored_result(store, KNOCKOUT_ANALYSIS, [run], settings)


def knock_out(
    store: Path, run: Run, models: RunModels, settings: KnockoutSettings, *, progress: Progress = NoProgress()
) -> KnockoutResult:
    """Compute one knockout and store it, even if a result is stored already; see `knock_out_all`."""
    (result,) = compute_knockouts(store, run, lambda: models, [resolve(run, settings)], progress=progress)
    return result


def knock_out_all(
    store: Path,
    run: Run,
    load_models: ModelLoader,
    settings: Sequence[KnockoutSettings],
    *,
    progress: Progress = NoProgress(),
) -> list[KnockoutResult]:
    """Results of knockouts, in their order: stored ones are read, the others are computed and stored.

    Args:
        store: the store's directory.
        run: published.
        load_models: called once if anything has to be computed.
        settings: of each knockout; those on the same documents share forward passes.
        progress: counts documents; those of knockouts that share passes count once.

    Raises:
        NotFoundError: no such label, layer, feature or document, or too few features.
        QueryError: settings that are incomplete or contradict each other.
        MemoryShortError: it would take more memory than is free.
        ModelNotHereError: the run's models are not on this machine.
        DiskFullError: no space for a result.
    """
    resolved = [resolve(run, knockout) for knockout in settings]
    keys = [knockout_key(run, knockout) for knockout in resolved]
    distinct = dict(zip(keys, resolved, strict=True))
    results = {
        key: result
        for key, knockout in distinct.items()
        if (result := stored_knockout(store, run, knockout)) is not None
    }
    missing = [key for key in distinct if key not in results]
    if missing:
        computed = compute_knockouts(store, run, load_models, [distinct[key] for key in missing], progress=progress)
        results.update(zip(missing, computed, strict=True))
    return [results[key] for key in keys]


def compute_knockouts(
    store: Path,
    run: Run,
    load_models: ModelLoader,
    settings: Sequence[KnockoutSettings],
    *,
    progress: Progress = NoProgress(),
) -> list[KnockoutResult]:
    """Compute knockouts and store each, without looking for stored results.

    Args:
        store: the store's directory.
        run: published.
        load_models: called once.
        settings: from `resolve`, different from each other; knockouts on the same documents share forward passes.
        progress: counts documents; those of knockouts that share passes count once.

    Raises:
        NotFoundError: no such document, or too few features.
        MemoryShortError, ModelNotHereError, DiskFullError: as of `knock_out_all`.
    """
    progress.stage(f"{run.name}: controls of knockouts")
    plans = [_plan(run, knockout, partial(progress.advance, 0)) for knockout in settings]
    groups = _groups(run, plans)
    models = load_models()
    layers = sorted({layer for plan in plans for layer in plan.layers})
    progress.stage(
        f"{run.name}: knockouts in layer {', '.join(map(str, layers))}",  # a choice of layer is followed by that layer
        sum(len(plans[group[0]].targets.ids) for group in groups),
    )
    results: dict[int, KnockoutResult] = {}
    for group in groups:
        computed = _compute_group(store, run, models, [plans[number] for number in group], progress)
        results.update(zip(group, computed, strict=True))
    return [results[number] for number in range(len(plans))]


class _Plan(NamedTuple):
    """A knockout with the documents and features that its settings select."""

    settings: KnockoutSettings
    targets: Targets
    features: list[RemovedFeature]
    controls: Controls

    @property
    def layers(self) -> tuple[int, ...]:
        """Edited layers, ascending."""
        layers = {feature.layer for feature in self.features}
        if not layers and self.settings.layer is not None:
            layers = {self.settings.layer}
        return tuple(sorted(layers))

    @property
    def sets(self) -> int:
        """Number of `ablations`, which needs no torch: a knockout is planned before the models are loaded."""
        return 1 + len(self.controls.random) + len(self.controls.matched) + (self.settings.mode == "reconstruction")

    @property
    def ablations(self) -> list[FeatureAblation]:
        """The features, each control set, and in reconstruction mode the empty set."""
        from tegakari.analyses.knockout.forward import FeatureAblation  # loads torch, which stored results need not

        features = tuple(LayerFeature(feature.layer, feature.feature) for feature in self.features)
        sets = [features, *self.controls.random, *self.controls.matched]
        if self.settings.mode == "reconstruction":
            sets.append(())
        return [
            FeatureAblation(features, self.settings.mode, self.settings.positions, self.layers) for features in sets
        ]


def _plan(run: Run, settings: KnockoutSettings, on_step: OnStep) -> _Plan:
    features = ablated_features(run, settings)
    controls = draw_controls(
        run,
        [LayerFeature(feature.layer, feature.feature) for feature in features],
        settings.draws,
        settings.seed,
        on_step,
    )
    return _Plan(settings, targets_of(run, settings), features, controls)


def _groups(run: Run, plans: Sequence[_Plan]) -> list[list[int]]:
    """Numbers of the plans that share forward passes: those on the same documents, up to the limits of a group."""
    by_documents: dict[tuple[str, ...], list[int]] = {}
    for number, plan in enumerate(plans):
        by_documents.setdefault(tuple(plan.targets.texts), []).append(number)
    groups = []
    for texts, numbers in by_documents.items():
        logits = max(plans[number].sets for number in numbers) * len(texts) * len(run.labels)
        size = max(1, min(MAX_KNOCKOUTS_PER_GROUP, MAX_LOGITS_PER_GROUP // logits))
        groups += [numbers[start : start + size] for start in range(0, len(numbers), size)]
    return groups


def _compute_group(
    store: Path, run: Run, models: RunModels, plans: Sequence[_Plan], progress: Progress
) -> list[KnockoutResult]:
    """Compute knockouts on the same documents and store them."""
    from tegakari.analyses.knockout.forward import run_feature_ablations

    started = time.perf_counter()
    ablations = [plan.ablations for plan in plans]
    saes = sae_qualities(run)
    every_ablation = [ablation for of_plan in ablations for ablation in of_plan]
    logits = run_feature_ablations(models, plans[0].targets.texts, every_ablation, progress)
    results = []
    start = 0
    for plan, of_plan in zip(plans, ablations, strict=True):
        stop = start + len(of_plan)
        timings = Timings(
            before=round(logits.before_seconds, 4),
            after=round(logits.after_seconds, 4),
            total=round(time.perf_counter() - started, 4),
            together=len(plans),
            kept=logits.cached,
        )
        result = _result(run, models, plan, logits._replace(after=logits.after[start:stop]), saes, timings)
        _publish(store, run, result)
        progress.advance(0)
        results.append(result)
        start = stop
    return results


def _result(
    run: Run, models: RunModels, plan: _Plan, logits: Logits, saes: Mapping[int, SaeQuality], timings: Timings
) -> KnockoutResult:
    settings, draws = plan.settings, len(plan.controls.random)
    outcome = Outcome(run, plan.targets, logits.before)
    after = logits.after[0]
    recall = outcome.recall_after(after)
    low, high = outcome.interval(after)
    random, matched = logits.after[1 : 1 + draws], logits.after[1 + draws : 1 + 2 * draws]
    net = outcome.net(after, matched)
    return KnockoutResult(
        run=run.name,
        settings=settings,
        features=plan.features,
        documents=len(plan.targets.ids),
        truncated=logits.truncated,
        recall_before=outcome.recall,
        recall_after=recall,
        delta=100 * (recall - outcome.recall),
        delta_low=low,
        delta_high=high,
        net=net,
        beyond_control=net.high < 0 if net else None,
        margin=outcome.margin(after, matched),
        macro_f1_before=outcome.macro_f1(logits.before),
        macro_f1_partial_ablation=outcome.macro_f1(after),
        control=outcome.control(plan.controls.random, random),
        density_control=outcome.control(plan.controls.matched, matched),
        recall_reconstructed=outcome.recall_after(logits.after[-1]) if settings.mode == "reconstruction" else None,
        saes=[saes[layer] for layer in plan.layers],
        lost=outcome.lost(after),
        gained=outcome.gained(after),
        survived=outcome.survived(after),
        outcomes=outcome.documents(after, settings),
        provenance=provenance_of(run, models),
        timings=timings,
    )


def _publish(store: Path, run: Run, result: KnockoutResult) -> None:
    """Store a result; a store that is read-only keeps none, and the result is returned all the same."""
    try:
        publish_analysis(
            store,
            KNOCKOUT_ANALYSIS,
            [run.manifest],
            result.settings,
            result,
            {},
            seconds=result.timings.total,
            versions=result.provenance.versions,
        )
    except OSError as error:
        if error.errno not in (errno.EROFS, errno.EACCES, errno.EPERM):
            raise
        log.warning("knockout not stored: the store cannot be written", reason=error.strerror)
