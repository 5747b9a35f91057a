"""The judge of a language model: it is asked of several passages at a time whether an explanation fits them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import msgspec

from tegakari.analyses.explanations.asker import Asker, BudgetSpentError
from tegakari.analyses.explanations.endpoint import NoAnswerError
from tegakari.analyses.explanations.excerpts import AFTER_MARK, BEFORE_MARK
from tegakari.analyses.explanations.passages import Passage
from tegakari.analyses.explanations.prompt_files import prompt_template
from tegakari.analyses.explanations.sentences import RefusedError, json_of
from tegakari.schemas.explanations import Explanation

GROUP = 8
"""Passages per question: more are cheaper, and small models lose count of them."""

MAX_ANSWER_TOKENS = 120
"""Tokens of an answer: GROUP truth values in JSON."""


class _Fits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    fits: list[bool]


class ModelJudge:
    """A judge for threads beside the event loop in which the model is asked."""

    def __init__(self, asker: Asker, loop: asyncio.AbstractEventLoop) -> None:
        self.name = asker.model
        self.stopped: str | None = None
        """the limit that was reached; passages have no answers from then on"""
        self._asker = asker
        self._loop = loop

    def __call__(self, explanation: Explanation, passages: Sequence[Passage]) -> list[bool | None]:
        """Whether each passage fits; None where the model has no valid answer.

        Raises:
            EndpointError: the server cannot be used.
        """
        return asyncio.run_coroutine_threadsafe(self._judge(explanation, passages), self._loop).result()

    async def _judge(self, explanation: Explanation, passages: Sequence[Passage]) -> list[bool | None]:
        groups = [passages[start : start + GROUP] for start in range(0, len(passages), GROUP)]
        answers = await asyncio.gather(*(self._judge_group(explanation, group) for group in groups))
        return [answer for group in answers for answer in group]

    async def _judge_group(self, explanation: Explanation, passages: Sequence[Passage]) -> list[bool | None]:
        none: list[bool | None] = [None] * len(passages)
        prompt = prompt_template("judge.en").prompt(
            _schema(len(passages)),
            MAX_ANSWER_TOKENS,
            explanation=_json(explanation.text),
            excerpts=[_json(passage.marked(BEFORE_MARK, AFTER_MARK)) for passage in passages],
        )
        try:
            fits = json_of(await self._asker.ask(prompt), _Fits).fits
        except BudgetSpentError as error:
            self.stopped = str(error)
            return none
        except (NoAnswerError, RefusedError):
            return none
        return [*fits] if len(fits) == len(passages) else none


def _schema(count: int) -> dict[str, object]:
    fits = {"type": "array", "items": {"type": "boolean"}, "minItems": count, "maxItems": count}
    return {"type": "object", "properties": {"fits": fits}, "required": ["fits"], "additionalProperties": False}


def _json(text: str) -> str:
    return msgspec.json.encode(text).decode()
