"""Score stored explanations by a judge, and store the scores."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from tegakari.analyses.explanations.asker import open_asker
from tegakari.analyses.explanations.endpoint import check_may_send
from tegakari.analyses.explanations.model_judge import ModelJudge
from tegakari.analyses.explanations.scoring import score_explanation
from tegakari.analyses.explanations.terms_judge import TermsJudge
from tegakari.schemas.config import ExplainConfig
from tegakari.schemas.explain import ModelUsage, ScoringResult
from tegakari.schemas.explanations import Explanation
from tegakari.schemas.progress import NoProgress, Progress
from tegakari.store import Run
from tegakari.store.explanations import NewScore, add_scores

STAGE = "scoring explanations"

_BATCH = 200
"""Scores that are stored at a time."""


def score_by_terms(
    run: Run, explanations: Sequence[Explanation], *, progress: Progress = NoProgress()
) -> ScoringResult:
    """Score deterministic explanations: a context fits if it contains one of the terms.

    Args:
        run: with contexts.
        explanations: stored ones; those without terms have no score.
        progress: one step per explanation.

    Raises:
        NotFoundError: the run has no contexts, or was deleted meanwhile.
        StoreError: the scores cannot be stored.
    """
    judge = TermsJudge()
    progress.stage(STAGE, len(explanations))
    scored, new = 0, []
    for explanation in explanations:
        scores = score_explanation(run, explanation, judge)
        new += [NewScore(explanation, score) for score in scores]
        scored += bool(scores)
        if len(new) >= _BATCH:
            add_scores(run, new)
            new = []
        progress.advance()
    add_scores(run, new)
    return ScoringResult(
        run=run.name,
        judge=judge.name,
        explanations=len(explanations),
        scored=scored,
        stopped=None,
        usage=ModelUsage(),
    )


def score_by_model(
    run: Run, explanations: Sequence[Explanation], config: ExplainConfig, *, progress: Progress = NoProgress()
) -> ScoringResult:
    """Score explanations by the model of a configuration, and store the scores.

    Args:
        run: with contexts.
        explanations: stored ones.
        config: the server, the model and the limits.
        progress: one step per explanation.

    Raises:
        EndpointError: the server cannot be used, or may not get the texts.
        NotFoundError: the run has no contexts, or was deleted meanwhile.
        StoreError: scores or answers cannot be stored.
    """
    check_may_send(config)
    return asyncio.run(_score(run, explanations, config, progress))


async def _score(
    run: Run, explanations: Sequence[Explanation], config: ExplainConfig, progress: Progress
) -> ScoringResult:
    async with open_asker(run.store, config) as asker:
        judge = ModelJudge(asker, asyncio.get_running_loop())
        progress.stage(STAGE, len(explanations))
        places = asyncio.Semaphore(config.concurrency)
        scored: list[Explanation] = []

        async def score(explanation: Explanation) -> None:
            async with places:
                if judge.stopped is None:
                    scores = await asyncio.to_thread(score_explanation, run, explanation, judge)
                    if scores and judge.stopped is None:  # not by a part of the passages
                        add_scores(run, [NewScore(explanation, score) for score in scores])
                        scored.append(explanation)
            progress.advance()

        try:
            async with asyncio.TaskGroup() as group:
                for explanation in explanations:
                    group.create_task(score(explanation))
        except BaseExceptionGroup as failures:  # what fails for one explanation fails for all of them
            raise failures.exceptions[0] from None
        return ScoringResult(
            run=run.name,
            judge=judge.name,
            explanations=len(explanations),
            scored=len(scored),
            stopped=judge.stopped,
            usage=asker.usage,
        )
