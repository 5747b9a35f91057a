"""Lines of the log of explanations: what people and language models add to the features of a run."""

from __future__ import annotations

from typing import Annotated, TypeAlias

import msgspec
from msgspec import Meta

from tegakari.schemas.explanations import Explanation, ExplanationId, ExplanationScore, VoteValue
from tegakari.schemas.notes import Author

EXPLANATION_LOG_FORMAT = 1
"""Version of the log; a reader leaves newer ones out."""

Number = Annotated[int, Meta(ge=0)]


class _Line(msgspec.Struct, frozen=True, kw_only=True, tag_field="event"):
    """A line of the log: an object with its kind in `event`."""


class LogHeader(_Line, frozen=True, kw_only=True, tag="log"):
    """The first line: the run that the log belongs to."""

    format: int
    run: str
    fingerprint: str


class ExplanationAdded(_Line, frozen=True, kw_only=True, tag="explanation"):
    """An explanation, without scores and votes; one with the id of an earlier one replaces it."""

    explanation: Explanation


class ScoreAdded(_Line, frozen=True, kw_only=True, tag="score"):
    """A score; it replaces an earlier one of the same protocol, negatives and judge."""

    id: ExplanationId
    layer: Number
    feature: Number
    score: ExplanationScore


class VoteChanged(_Line, frozen=True, kw_only=True, tag="vote"):
    """The vote of an author, which replaces an earlier one; 0: none."""

    id: ExplanationId
    layer: Number
    feature: Number
    author: Author
    value: VoteValue
    created: str


class ExplanationRemoved(_Line, frozen=True, kw_only=True, tag="removal"):
    """The explanation is gone, and with it its scores and votes."""

    id: ExplanationId
    layer: Number
    feature: Number
    created: str


LogEvent: TypeAlias = ExplanationAdded | ScoreAdded | VoteChanged | ExplanationRemoved
LogLine: TypeAlias = LogHeader | LogEvent
