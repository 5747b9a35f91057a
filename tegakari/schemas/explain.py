"""What a language model was asked about features, and with what result."""

from __future__ import annotations

import msgspec


class ModelUsage(msgspec.Struct, kw_only=True):
    """Questions to a language model."""

    requests: int = 0
    """sent to the server, retries included"""
    cached: int = 0
    """answers that the store had"""
    tokens: int = 0
    """of prompts and answers, as the server counts them, or estimated where it does not"""


class Unexplained(msgspec.Struct, frozen=True, kw_only=True):
    """A feature without an explanation of the model."""

    layer: int
    feature: int
    reason: str


class ExplainResult(msgspec.Struct, frozen=True, kw_only=True):
    """Result of asking a language model to explain features."""

    run: str
    model: str
    prompt_version: str
    features: int
    """that were selected"""
    explained: int
    """features with a new explanation"""
    stored_before: int
    """features that had an explanation of this model and prompt"""
    unexplained: list[Unexplained]
    """features without one, by layer and feature"""
    stopped: str | None
    """why features are left over, as a limit that was reached; null: none are"""
    usage: ModelUsage


class ExplainPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What asking a language model would cost."""

    run: str
    base_url: str
    model: str
    """as the configuration names it; empty: the only one of the server"""
    prompt_version: str
    features: int
    """that were selected"""
    stored_before: int
    """features that have an explanation of this prompt, and of this model if it is named"""
    inactive: int
    """features without contexts: they are never active"""
    requests: int
    """one per remaining feature; those with a cached answer are not sent"""
    prompt_tokens: int
    """about: one per four ASCII characters, and one per other character"""
    answer_tokens: int
    """at most"""
    example: str
    """the prompt of the first feature; empty: there is none"""


class ScoringResult(msgspec.Struct, frozen=True, kw_only=True):
    """Result of scoring explanations by a judge."""

    run: str
    judge: str
    """terms, or the name of a language model"""
    explanations: int
    """that were selected"""
    scored: int
    """explanations with new scores; the others have too few contexts with an answer"""
    stopped: str | None
    """why explanations are left over, as a limit that was reached; null: none are"""
    usage: ModelUsage


class ImportResult(msgspec.Struct, frozen=True, kw_only=True):
    """Result of importing explanations from files."""

    run: str
    rows: int
    """of the files"""
    added: int
    stored_before: int
    """rows that the run has already, or that the files repeat"""
    skipped: dict[str, int]
    """reason -> rows"""
