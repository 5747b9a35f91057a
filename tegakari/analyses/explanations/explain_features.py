"""Explain features by a language model: one question per feature, stored as the answers arrive."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from itertools import groupby, islice
from operator import itemgetter
from typing import NamedTuple

from tegakari.analyses.explanations.asker import Asker, BudgetSpentError, estimated_tokens, open_asker
from tegakari.analyses.explanations.endpoint import NoAnswerError, Prompt, check_may_send
from tegakari.analyses.explanations.excerpts import feature_excerpts
from tegakari.analyses.explanations.prompt_files import prompt_template
from tegakari.analyses.explanations.sentences import EXPLANATION_SCHEMA, RefusedError, sentence_of
from tegakari.schemas.config import ExplainConfig
from tegakari.schemas.errors import QueryError
from tegakari.schemas.explain import ExplainPlan, ExplainResult, Unexplained
from tegakari.schemas.explanations import Explanation, explanation_id
from tegakari.schemas.progress import NoProgress, Progress
from tegakari.store import Run, queries
from tegakari.store.contexts import contexts_of
from tegakari.store.explanations import add_explanations, written_log

MAX_ANSWER_TOKENS = 300
"""Tokens of an answer: a sentence in JSON, with room for a model that begins with an introduction."""

INACTIVE = "it is never active"

_BATCH = 64
_SECONDS = 2.0
"""Explanations are stored when there are so many, or after this time."""
_AHEAD = 4
"""Prompts per place of `concurrency` that are made ahead."""


class Feature(NamedTuple):
    """A feature of a run."""

    layer: int
    feature: int


def label_features(
    run: Run, labels: Sequence[str] | None = None, *, layers: Sequence[int] | None = None, per_label: int = 5
) -> list[Feature]:
    """The features that carry labels: of each label those of largest d that are specific to it.

    Args:
        run: the run.
        labels: None: all labels.
        layers: None: all layers.
        per_label: features of a label.

    Returns:
        by layer and feature, each once.

    Raises:
        NotFoundError: no such label or layer.
    """
    features: set[Feature] = set()
    for label in run.labels if labels is None else labels:
        for layer in [None] if layers is None else layers:
            page = queries.label_features(run, label, layer=layer, variety="specific", limit=per_label)
            rows = sorted(page.items, key=lambda row: -row.cohens_d)
            features |= {Feature(row.layer, row.feature) for row in rows}
    return sorted(features)


def plan_explanations(run: Run, features: Sequence[Feature], config: ExplainConfig) -> ExplainPlan:
    """State what `explain_features` would ask; no server is needed.

    Raises:
        NotFoundError: no such layer or feature, or the run has no contexts.
    """
    template = prompt_template(f"explain.{config.language}")
    before = _explained_before(run, features, config.model or None, template.version)
    prompts = list(_prompts(run, [feature for feature in features if feature not in before], config))
    asked = [prompt for _, prompt in prompts if prompt is not None]
    return ExplainPlan(
        run=run.name,
        base_url=config.base_url,
        model=config.model,
        prompt_version=template.version,
        features=len(features),
        stored_before=len(before),
        inactive=len(prompts) - len(asked),
        requests=len(asked),
        prompt_tokens=sum(map(estimated_tokens, asked)),
        answer_tokens=MAX_ANSWER_TOKENS * len(asked),
        example="\n\n".join(f"[{message.role}]\n{message.content}" for message in asked[0].messages) if asked else "",
    )


def explain_features(
    run: Run, features: Sequence[Feature], config: ExplainConfig, *, progress: Progress = NoProgress()
) -> ExplainResult:
    """Ask the model of a configuration for an explanation of each feature, and store them.

    A feature that the model has explained with this prompt is left as it is. Answers and explanations are stored as
    they arrive, so that a stopped command can be repeated.

    Args:
        run: with contexts.
        features: each once.
        config: the server, the model, language and limits.
        progress: one step per feature.

    Raises:
        EndpointError: the server cannot be used, or may not get the texts.
        NotFoundError: no such layer or feature, or the run has no contexts or was deleted meanwhile.
        StoreError: explanations or answers cannot be stored.
    """
    check_may_send(config)
    for feature in features:
        queries.feature_place(run, *feature)
    return asyncio.run(_explain(run, features, config, progress))


async def _explain(run: Run, features: Sequence[Feature], config: ExplainConfig, progress: Progress) -> ExplainResult:
    async with open_asker(run.store, config) as asker:
        template = prompt_template(f"explain.{config.language}")
        before = _explained_before(run, features, asker.model, template.version)
        progress.stage("explaining features", len(features), done=len(before))
        work = _Work(run, asker, config.language, progress)
        remaining = [feature for feature in features if feature not in before]
        try:
            await work.run(_prompts(run, remaining, config), config.concurrency)
        finally:
            work.store()
        return ExplainResult(
            run=run.name,
            model=asker.model,
            prompt_version=template.version,
            features=len(features),
            explained=work.explained,
            stored_before=len(before),
            unexplained=sorted(work.unexplained, key=lambda row: (row.layer, row.feature)),
            stopped=work.stopped,
            usage=asker.usage,
        )


class _Work:
    """Questions in progress, and what came of them."""

    def __init__(self, run: Run, asker: Asker, language: str, progress: Progress) -> None:
        self.explained = 0
        self.unexplained: list[Unexplained] = []
        self.stopped: str | None = None
        self._run = run
        self._asker = asker
        self._language = language
        self._progress = progress
        self._new: list[Explanation] = []
        self._stored_at = time.monotonic()

    async def run(self, prompts: Iterator[tuple[Feature, Prompt | None]], concurrency: int) -> None:
        """Ask all questions; the prompts are made in a thread, some ahead of the questions."""
        queue: asyncio.Queue[tuple[Feature, Prompt | None] | None] = asyncio.Queue(concurrency * _AHEAD)

        async def make() -> None:
            while self.stopped is None and (part := await asyncio.to_thread(lambda: list(islice(prompts, _AHEAD)))):
                for item in part:
                    await queue.put(item)
            for _ in range(concurrency):
                await queue.put(None)

        async def ask() -> None:
            while (item := await queue.get()) is not None:
                if self.stopped is None:
                    await self._explain(*item)

        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(make())
                for _ in range(concurrency):
                    group.create_task(ask())
        except BaseExceptionGroup as failures:  # what fails for one question fails for all of them
            raise failures.exceptions[0] from None

    async def _explain(self, feature: Feature, prompt: Prompt | None) -> None:
        if prompt is None:
            self._leave(feature, INACTIVE)
            self._progress.advance()
            return
        try:
            text = sentence_of(await self._asker.ask(prompt), self._language)
        except BudgetSpentError as error:
            self.stopped = str(error)
            return
        except NoAnswerError as error:
            self._leave(feature, str(error))
        except RefusedError as error:
            self._leave(feature, f"the answer is no explanation: {error}")
        else:
            self._new.append(_explanation(feature, text, self._language, self._asker.model, prompt.version))
            if len(self._new) >= _BATCH or time.monotonic() - self._stored_at > _SECONDS:
                self.store()
        self._progress.advance()

    def _leave(self, feature: Feature, reason: str) -> None:
        self.unexplained.append(Unexplained(layer=feature.layer, feature=feature.feature, reason=reason))

    def store(self) -> None:
        """Store the explanations that are new."""
        new, self._new = self._new, []
        self._stored_at = time.monotonic()
        try:
            add_explanations(self._run, new)
            self.explained += len(new)
        except QueryError:  # a feature of them has as many as it may have
            for explanation in new:
                try:
                    add_explanations(self._run, [explanation])
                    self.explained += 1
                except QueryError as error:
                    self._leave(Feature(explanation.layer, explanation.feature), error.message)


def _prompts(run: Run, features: Iterable[Feature], config: ExplainConfig) -> Iterator[tuple[Feature, Prompt | None]]:
    """The question about each feature; None for one that is never active."""
    template = prompt_template(f"explain.{config.language}")
    for layer, group in groupby(sorted(features), key=itemgetter(0)):
        of_layer = list(group)
        numbers = [feature.feature for feature in of_layer]
        for feature, contexts in zip(of_layer, contexts_of(run, layer, numbers), strict=True):
            excerpts = feature_excerpts(run, feature.feature, contexts, config.contexts)
            yield (
                feature,
                template.prompt(EXPLANATION_SCHEMA, MAX_ANSWER_TOKENS, excerpts=excerpts) if excerpts else None,
            )


def _explained_before(run: Run, features: Iterable[Feature], model: str | None, prompt_version: str) -> set[Feature]:
    """Features that have an explanation by a model, None: any, and a prompt."""
    with written_log(run).read() as written:
        return {
            feature
            for feature in features
            for row in written.of_feature(*feature)
            if row.method == "model" and row.prompt_version == prompt_version and model in (None, row.model)
        }


def _explanation(feature: Feature, text: str, language: str, model: str, prompt_version: str) -> Explanation:
    return Explanation(
        id=explanation_id(*feature, "model", model, text),
        layer=feature.layer,
        feature=feature.feature,
        text=text,
        language=language,
        method="model",
        author=model,
        model=model,
        prompt_version=prompt_version,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )
