"""Smallest set: greedy search for the fewest features whose ablation lowers a label's recall to a target."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from tegakari.analyses.engine.model_loader import ModelLoader
from tegakari.analyses.engine.stored_results import stored_or_computed
from tegakari.analyses.knockout.outcome import Outcome, probabilities
from tegakari.analyses.knockout.settings import Targets, resolve, strongest_up_to, targets_of
from tegakari.schemas.analysis_kinds import SMALLEST_SET_ANALYSIS
from tegakari.schemas.knockout import (
    KnockoutSettings,
    LayerFeature,
    SmallestSetResult,
    SmallestSetSettings,
    SmallestSetStep,
)
from tegakari.schemas.progress import NoProgress, Progress
from tegakari.store import Run
from tegakari.store.queries.parameters import check_pooling

if TYPE_CHECKING:
    from tegakari.analyses.engine.run_models import RunModels

PATIENCE = 10
"""The search ends after this many features in a row that do not lower the recall."""


def smallest_set(
    store: Path,
    run: Run,
    load_models: ModelLoader,
    settings: SmallestSetSettings,
    *,
    progress: Progress = NoProgress(),
) -> SmallestSetResult:
    """Search greedily for the fewest features whose ablation lowers recall to a share of what it was.

    Each step ablates the candidate that lowers recall most; among equals the one that leaves the expected label the
    lowest mean probability, then the one with the larger d. A stored result is read.

    Args:
        store: the store's directory.
        run: published.
        load_models: called if the result is not stored.
        settings: label, layer, candidates and target.
        progress: counts candidates that the search has decided on.

    Raises:
        NotFoundError: no such label or layer, or the label has no evaluation documents.
        ModelNotHereError: the run's models are not on this machine.
    """
    resolved = msgspec.structs.replace(settings, pooling=check_pooling(run, settings.pooling))
    knockout = resolve(run, KnockoutSettings(label=settings.label, layer=settings.layer, k=0, pooling=settings.pooling))
    targets = targets_of(run, knockout)
    return stored_or_computed(
        store,
        SMALLEST_SET_ANALYSIS,
        [run],
        resolved,
        lambda: (_search(run, load_models(), resolved, knockout, targets, progress), {}),
    )


def _search(
    run: Run,
    models: RunModels,
    settings: SmallestSetSettings,
    knockout: KnockoutSettings,
    targets: Targets,
    progress: Progress,
) -> SmallestSetResult:
    from tegakari.analyses.knockout.forward import FeatureAblation, run_feature_ablations

    features = strongest_up_to(run, knockout, settings.candidates)
    candidates = [LayerFeature(feature.layer, feature.feature) for feature in features]
    d = {LayerFeature(feature.layer, feature.feature): feature.cohens_d or 0.0 for feature in features}

    def recalls(sets: list[list[LayerFeature]]) -> list[tuple[float, float]]:
        """Recall and mean probability of the expected label with each set ablated."""
        ablations = [
            FeatureAblation(tuple(ablated), settings.mode, settings.positions, (settings.layer,)) for ablated in sets
        ]
        logits = run_feature_ablations(models, targets.texts, ablations, NoProgress())
        outcome = Outcome(run, targets, logits.before)
        rows = np.arange(len(logits.before))
        return [
            (outcome.recall_after(after), float(probabilities(after)[rows, outcome.expected].mean()))
            for after in logits.after
        ]

    unmodified = run_feature_ablations(models, targets.texts, [], NoProgress())
    before = Outcome(run, targets, unmodified.before).recall
    target = settings.share * before
    by_d = [recall for recall, _ in recalls([candidates[: number + 1] for number in range(len(candidates))])]
    ablated: list[LayerFeature] = []
    steps: list[SmallestSetStep] = []
    remaining = list(candidates)
    last_decrease = 0  # steps up to and including the last one that lowered the recall
    progress.stage(f"{run.name}: smallest set", len(candidates))
    while remaining and not (steps and steps[-1].recall <= target) and len(steps) - last_decrease < PATIENCE:
        trials = recalls([[*ablated, feature] for feature in remaining])
        best = min(range(len(remaining)), key=lambda number: (*trials[number], number))
        feature, recall = remaining.pop(best), trials[best][0]
        ablated.append(feature)
        steps.append(SmallestSetStep(layer=feature.layer, feature=feature.feature, cohens_d=d[feature], recall=recall))
        if recall < (steps[last_decrease - 1].recall if last_decrease else before):
            last_decrease = len(steps)
        progress.advance()
    progress.advance(len(remaining))
    del steps[last_decrease:]
    return SmallestSetResult(
        run=run.name,
        settings=settings,
        documents=len(targets.ids),
        recall_before=before,
        target=target,
        reached=bool(steps) and steps[-1].recall <= target,
        steps=steps,
        by_d=next((number for number, recall in enumerate(by_d, 1) if recall <= target), None),
        recalls_by_d=by_d,
    )
