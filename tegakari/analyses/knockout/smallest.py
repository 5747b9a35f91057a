"""How many clues hang a label: features are taken out one after the other, each time the one that costs most."""

from __future__ import annotations

import time
from pathlib import Path

import msgspec
import numpy as np

from tegakari.analyses.engine.run_models import ModelLoader, RunModels
from tegakari.analyses.knockout.forward import Removal, run_removals
from tegakari.analyses.knockout.outcome import Outcome, probabilities
from tegakari.analyses.knockout.settings import resolve, strongest_up_to, targets_of
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
from tegakari.store.results import find_analysis, publish_analysis
from tegakari.store.versions import recorded_versions

KIND = "smallest-set"

PATIENCE = 10
"""Features that are taken out in vain before the search gives up."""


def smallest_set(
    store: Path, run: Run, load: ModelLoader, asked: SmallestSetSettings, *, progress: Progress = NoProgress()
) -> SmallestSetResult:
    """Search greedily for the fewest features without which recall comes down to a share of what it was.

    Of features that cost the same recall that one is taken which leaves the expected label the least probability, of
    those the one with the larger d. A set that was searched before is read from the store.

    Args:
        store: the store's directory.
        run: published.
        load: gives the run's models, if they are needed.
        asked: whose features, and how far.
        progress: counts candidates that the search has decided on.

    Raises:
        NotFoundError: no such label or layer, or a label without evaluation documents.
        ModelNotHereError: the models are not on this machine.
    """
    settings = msgspec.structs.replace(asked, pooling=check_pooling(run, asked.pooling))
    stored = find_analysis(store, KIND, [run.manifest], settings)
    if stored:
        return stored.result(SmallestSetResult)
    started = time.perf_counter()
    result = _search(run, load(), settings, progress)
    publish_analysis(
        store,
        KIND,
        [run.manifest],
        settings,
        result,
        {},
        seconds=round(time.perf_counter() - started, 3),
        versions=recorded_versions(),
    )
    return result


def _search(run: Run, models: RunModels, settings: SmallestSetSettings, progress: Progress) -> SmallestSetResult:
    targets = targets_of(run, resolve(run, KnockoutSettings(label=settings.label, layer=settings.layer, k=0)))
    found = strongest_up_to(run, settings.label, settings.layer, settings.pooling, settings.candidates)
    candidates = [LayerFeature(each.layer, each.feature) for each in found]
    d = {LayerFeature(each.layer, each.feature): each.d or 0.0 for each in found}

    def recalls(sets: list[list[LayerFeature]]) -> list[tuple[float, float]]:
        """Recall and mean probability of the expected label without each set."""
        removals = [Removal(tuple(each), settings.mode, settings.positions, (settings.layer,)) for each in sets]
        logits = run_removals(models, targets.texts, removals, NoProgress())
        outcome = Outcome(run, targets, logits.before)
        rows = np.arange(len(logits.before))
        return [
            (outcome.recall_after(after), float(probabilities(after)[rows, outcome.expected].mean()))
            for after in logits.after
        ]

    before = Outcome(run, targets, run_removals(models, targets.texts, [], NoProgress()).before).recall
    target = settings.share * before
    by_d = [recall for recall, _ in recalls([candidates[: number + 1] for number in range(len(candidates))])]
    taken: list[LayerFeature] = []
    steps: list[SmallestSetStep] = []
    left = list(candidates)
    fell = 0
    progress.stage(f"{run.name}: smallest set", len(candidates))
    while left and not (steps and steps[-1].recall <= target) and len(steps) - fell < PATIENCE:
        tried = recalls([[*taken, each] for each in left])
        best = min(range(len(left)), key=lambda number: (*tried[number], number))
        feature = left.pop(best)
        taken.append(feature)
        steps.append(SmallestSetStep(layer=feature.layer, feature=feature.feature, d=d[feature], recall=tried[best][0]))
        if tried[best][0] < (steps[fell - 1].recall if fell else before):
            fell = len(steps)
        progress.advance()
    progress.advance(len(left))
    del steps[fell:]
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
