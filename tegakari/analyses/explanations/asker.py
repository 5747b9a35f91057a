"""Questions to a language model: from the cache where they were asked before, else from its server, within a budget."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from tegakari.analyses.explanations.answer_cache import AnswerCache, open_cache
from tegakari.analyses.explanations.endpoint import Answer, Endpoint, NoAnswerError, Prompt, open_endpoint
from tegakari.schemas.config import ExplainConfig
from tegakari.schemas.errors import EndpointError
from tegakari.schemas.explain import ModelUsage

MAX_FAILURES = 20
"""Questions without an answer, one after the other, after which no more are asked."""


class BudgetSpentError(Exception):
    """The limit of requests or tokens of the configuration is reached; which one is the message."""


class Asker:
    """Asks a model; any number of tasks may ask at once, `concurrency` of them reach the server."""

    def __init__(self, endpoint: Endpoint, cache: AnswerCache, config: ExplainConfig) -> None:
        self.model = endpoint.model
        self._endpoint = endpoint
        self._cache = cache
        self._config = config
        self._places = asyncio.Semaphore(config.concurrency)
        self._cached = 0
        self._tokens = 0
        self._reserved = 0
        self._failures = 0

    @property
    def usage(self) -> ModelUsage:
        """Requests and tokens so far."""
        return ModelUsage(requests=self._endpoint.requests, cached=self._cached, tokens=self._tokens)

    async def ask(self, prompt: Prompt) -> Answer:
        """The answer of the model.

        Raises:
            NoAnswerError: this question has no answer; others may have one.
            BudgetSpentError: a limit is reached.
            EndpointError: the server cannot be used, or has failed MAX_FAILURES times in a row.
            StoreError: the cache cannot be used.
        """
        answer = self._cache.get(self.model, prompt)
        if answer is not None:
            self._cached += 1
            return answer
        async with self._places:
            estimate = estimated_tokens(prompt)
            self._check_budget(estimate + prompt.max_tokens)
            self._reserved += estimate + prompt.max_tokens
            try:
                answer = await self._endpoint.answer(prompt)
            except NoAnswerError as error:
                self._tokens += estimate
                self._failures += 1
                if self._failures >= MAX_FAILURES:
                    raise EndpointError(
                        f"{self._config.base_url}: no answer to {MAX_FAILURES} requests in a row, at last: {error}",
                        field="explain.base_url",
                        fix="look at the server's log; the same command goes on where it stopped",
                    ) from error
                raise
            finally:
                self._reserved -= estimate + prompt.max_tokens
            self._failures = 0
            prompt_tokens = estimate if answer.prompt_tokens is None else answer.prompt_tokens
            answer_tokens = prompt.max_tokens if answer.answer_tokens is None else answer.answer_tokens
            self._tokens += prompt_tokens + answer_tokens
        self._cache.put(self.model, prompt, answer)
        return answer

    def _check_budget(self, tokens: int) -> None:
        if self._endpoint.requests >= self._config.max_requests:
            raise BudgetSpentError(f"explain.max_requests = {self._config.max_requests:,} is reached")
        if self._tokens + self._reserved + tokens > self._config.max_tokens:
            raise BudgetSpentError(f"explain.max_tokens = {self._config.max_tokens:,} would be exceeded")


@asynccontextmanager
async def open_asker(store: Path, config: ExplainConfig) -> AsyncIterator[Asker]:
    """The model of a configuration, with the answers of a store.

    Raises:
        EndpointError: the texts may not be sent to the server, or no model is named and it does not have exactly one.
        StoreError: the answers cannot be used.
    """
    async with open_endpoint(config) as endpoint:
        with open_cache(store) as cache:
            yield Asker(endpoint, cache, config)


def estimated_tokens(prompt: Prompt) -> int:
    """About how many tokens the messages have: one per four ASCII characters, and one per other character."""
    text = "".join(message.content for message in prompt.messages)
    ascii_letters = len(text.encode("ascii", "ignore"))
    return ascii_letters // 4 + len(text) - ascii_letters
