"""What one request may cost: more is refused before it waits for the models."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from tegakari.analyses.engine.cost import Cost, cost_of_texts
from tegakari.store import Run


class CostLimits(NamedTuple):
    """Maximum tokens times passes of a request; keys of `[service]`."""

    max_text_tokens: int
    max_job_tokens: int

    def tokens_of_texts(self, run: Run, texts: Sequence[str]) -> int:
        """Estimated cost of texts to classify or encode.

        Raises:
            TooCostlyError: it exceeds `max_text_tokens`.
        """
        cost = cost_of_texts(run, texts)
        cost.check(
            self.max_text_tokens,
            field="texts",
            key="service.max_text_tokens",
            fix="send fewer or shorter texts per request",
        )
        return cost.total

    def tokens_of_attribution(self, cost: Cost) -> int:
        """Estimated cost of an attribution, at most `max_text_tokens`.

        Raises:
            TooCostlyError: it exceeds that.
        """
        cost.check(
            self.max_text_tokens,
            field="candidates",
            key="service.max_text_tokens",
            fix="choose fewer candidates or draws, a smaller `max_set`, or a shorter text",
        )
        return cost.total

    def tokens_of_job(self, cost: Cost) -> int:
        """Estimated cost of a job.

        Raises:
            TooCostlyError: it exceeds `max_job_tokens`.
        """
        cost.check(
            self.max_job_tokens,
            field="draws",
            key="service.max_job_tokens",
            fix="choose fewer draws, documents or texts, or run `tegakari knockout` on the store's machine",
        )
        return cost.total
