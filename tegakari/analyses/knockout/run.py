"""Questions about knockouts, answered together where they are about the same documents, and stored."""

from __future__ import annotations

import errno
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import structlog

from tegakari.analyses.engine.provenance import provenance_of
from tegakari.analyses.engine.run_models import ModelLoader, RunModels
from tegakari.analyses.knockout.controls import Controls, draw_controls
from tegakari.analyses.knockout.forward import Logits, Removal, run_removals
from tegakari.analyses.knockout.outcome import Outcome
from tegakari.analyses.knockout.settings import Targets, removed_features, resolve, targets_of
from tegakari.schemas.knockout import KnockoutResult, KnockoutSettings, LayerFeature, RemovedFeature, Timings
from tegakari.schemas.progress import NoProgress, Progress
from tegakari.store import Run
from tegakari.store.results import analysis_key, find_analysis, publish_analysis

KIND = "knockout"

TOGETHER = 32
"""Knockouts that go through the classifier together: what a killed sweep loses at most."""

LOGITS_TOGETHER = 2**26
"""Most logits that are gathered at a time."""

log = structlog.get_logger()


def knockout_key(run: Run, settings: KnockoutSettings) -> str:
    """Name of the answer to a resolved question."""
    return analysis_key(KIND, [run.manifest], settings)


def stored_knockout(store: Path, run: Run, settings: KnockoutSettings) -> KnockoutResult | None:
    """The answer to a resolved question, if the same was asked before."""
    found = find_analysis(store, KIND, [run.manifest], settings)
    return found.result(KnockoutResult) if found else None


def knock_out(
    store: Path, run: Run, models: RunModels, settings: KnockoutSettings, *, progress: Progress = NoProgress()
) -> KnockoutResult:
    """As `knock_out_all`, one question; it is answered anew, stored or not."""
    plan = _plan(run, resolve(run, settings))
    progress.stage(f"{run.name}: knockouts", len(plan.targets.ids))
    (result,) = _answer(store, run, models, [plan], progress)
    return result


def knock_out_all(
    store: Path, run: Run, load: ModelLoader, asked: Sequence[KnockoutSettings], *, progress: Progress = NoProgress()
) -> list[KnockoutResult]:
    """Answer questions, from the store where the same was asked before; each new answer is stored.

    Args:
        store: the store's directory.
        run: published.
        load: gives the run's models; called once, if anything is to be computed.
        asked: questions; those about the same documents share their passes.
        progress: counts documents; those of knockouts that share passes count once.

    Raises:
        NotFoundError: no such label, layer, feature or document, or too few features.
        QueryError: a question that does not make sense.
        MemoryShortError: there is not memory enough.
        ModelNotHereError: the models are not on this machine.
        DiskFullError: no space to store an answer.
    """
    plans = {knockout_key(run, settings): settings for settings in (resolve(run, each) for each in asked)}
    found = {key: stored_knockout(store, run, settings) for key, settings in plans.items()}
    missing = [_plan(run, plans[key]) for key, result in found.items() if result is None]
    if missing:
        models = load()
        groups = list(_groups(run, missing))
        progress.stage(f"{run.name}: knockouts", sum(len(group[0].targets.ids) for group in groups))
        for group in groups:
            for plan, result in zip(group, _answer(store, run, models, group, progress), strict=True):
                found[knockout_key(run, plan.settings)] = result
    answers = []
    for each in asked:
        result = found[knockout_key(run, resolve(run, each))]
        assert result is not None
        answers.append(result)
    return answers


class _Plan(NamedTuple):
    """A question with the documents and features that it means."""

    settings: KnockoutSettings
    targets: Targets
    removed: list[RemovedFeature]
    controls: Controls

    @property
    def removals(self) -> list[Removal]:
        """The features themselves, each draw of the controls, and in reconstruction mode nothing at all."""
        taken = tuple(LayerFeature(each.layer, each.feature) for each in self.removed)
        layers = {each.layer for each in taken} or ({self.settings.layer} if self.settings.layer is not None else set())
        sets = [taken, *self.controls.random, *self.controls.matched]
        if self.settings.mode == "reconstruction":
            sets.append(())
        return [
            Removal(features, self.settings.mode, self.settings.positions, tuple(sorted(layers))) for features in sets
        ]


def _plan(run: Run, settings: KnockoutSettings) -> _Plan:
    removed = removed_features(run, settings)
    taken = [LayerFeature(each.layer, each.feature) for each in removed]
    controls = draw_controls(run, taken, settings.draws, settings.seed)
    return _Plan(settings, targets_of(run, settings), removed, controls)


def _groups(run: Run, plans: Sequence[_Plan]) -> Iterator[list[_Plan]]:
    """Questions about the same documents, as many as may go together."""
    by_documents: dict[tuple[str, ...], list[_Plan]] = {}
    for plan in plans:
        by_documents.setdefault(tuple(plan.targets.texts), []).append(plan)
    for group in by_documents.values():
        logits = max(len(plan.removals) for plan in group) * len(group[0].targets.texts) * len(run.labels)
        at_once = max(1, min(TOGETHER, LOGITS_TOGETHER // logits))
        for start in range(0, len(group), at_once):
            yield group[start : start + at_once]


def _answer(
    store: Path, run: Run, models: RunModels, plans: Sequence[_Plan], progress: Progress
) -> list[KnockoutResult]:
    """Answer questions about the same documents, and store the answers."""
    started = time.perf_counter()
    removals = [plan.removals for plan in plans]
    logits = run_removals(models, plans[0].targets.texts, [each for group in removals for each in group], progress)
    results = []
    first = 0
    for plan, group in zip(plans, removals, strict=True):
        mine = logits._replace(after=logits.after[first : first + len(group)])
        first += len(group)
        timings = Timings(
            before=round(logits.before_seconds, 4),
            after=round(logits.after_seconds, 4),
            total=round(time.perf_counter() - started, 4),
            together=len(plans),
            kept=logits.kept,
        )
        result = _result(run, models, plan, mine, timings)
        _store(store, run, result)
        results.append(result)
    return results


def _result(run: Run, models: RunModels, plan: _Plan, logits: Logits, timings: Timings) -> KnockoutResult:
    settings, draws = plan.settings, len(plan.controls.random)
    outcome = Outcome(run, plan.targets, logits.before)
    after = logits.after[0]
    recall = outcome.recall_after(after)
    low, high = outcome.interval(after, settings.seed)
    return KnockoutResult(
        run=run.name,
        settings=settings,
        features=plan.removed,
        documents=len(plan.targets.ids),
        truncated=logits.truncated,
        recall_before=outcome.recall,
        recall_after=recall,
        delta=100 * (recall - outcome.recall),
        delta_low=low,
        delta_high=high,
        macro_f1_before=outcome.macro_f1(logits.before),
        macro_f1_after=outcome.macro_f1(after),
        control=outcome.control(plan.controls.random, logits.after[1 : 1 + draws]),
        density_control=outcome.control(plan.controls.matched, logits.after[1 + draws : 1 + 2 * draws]),
        recall_reconstructed=outcome.recall_after(logits.after[-1]) if settings.mode == "reconstruction" else None,
        lost=outcome.lost(after),
        gained=outcome.gained(after),
        survived=outcome.survived(after),
        outcomes=outcome.of_each(after, settings),
        provenance=provenance_of(run, models),
        timings=timings,
    )


def _store(store: Path, run: Run, result: KnockoutResult) -> None:
    try:
        publish_analysis(
            store,
            KIND,
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
        log.warning("answer not kept: the store cannot be written", reason=error.strerror)
