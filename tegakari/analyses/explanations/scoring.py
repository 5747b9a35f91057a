"""Scores of explanations: whether a judge tells contexts of a feature from others, by the explanation alone.

Detection and fuzzing as of Paulo et al. 2024, "Automatically Interpreting Millions of Features in Large Language
Models"; negatives of the feature's own label are ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Protocol as TypingProtocol

import numpy as np

from tegakari.analyses.explanations.passages import Passage, Passages, feature_passages
from tegakari.analyses.statistics import balanced_accuracy
from tegakari.schemas.explanations import Explanation, ExplanationScore, Negatives, Protocol, QuantileScore
from tegakari.store import Run

MIN_CONTEXTS = 5
"""Contexts with an answer of the judge, active and others, below which there is no score."""

PROTOCOLS: tuple[Protocol, ...] = ("detection", "fuzzing")

Answers = Sequence[bool | None]
"""Whether each passage fits an explanation; None: the judge has no answer, which is no score and no failure."""


class Judge(TypingProtocol):
    """Says of passages whether they fit an explanation."""

    @property
    def name(self) -> str:
        """`terms`, or the name of a language model."""
        ...

    def __call__(self, explanation: Explanation, passages: Sequence[Passage]) -> Answers:
        """Judge passages, in their order.

        Args:
            explanation: of the feature.
            passages: contexts of the feature and others, mixed; those of fuzzing have marks.
        """
        ...


def score_explanation(
    run: Run, explanation: Explanation, judge: Judge, *, protocols: Sequence[Protocol] = PROTOCOLS
) -> list[ExplanationScore]:
    """Score an explanation by one judge.

    Args:
        run: published, with contexts; the explanation is of one of its features.
        explanation: to score.
        judge: that answers.
        protocols: detection (the context alone), fuzzing (with marked tokens).

    Returns:
        one score per protocol and kind of negatives that has enough answers.

    Raises:
        NotFoundError: no such feature, or the run has no contexts.
        StoreError: the run is damaged.
    """
    scores = []
    for protocol in protocols:
        passages = feature_passages(run, explanation.layer, explanation.feature, protocol)
        scores += score_passages(passages, explanation, judge, protocol)
    return scores


def score_passages(
    passages: Passages, explanation: Explanation, judge: Judge, protocol: Protocol
) -> list[ExplanationScore]:
    """Scores of one protocol; the judge is shown all passages at once, in an order that says nothing."""
    shown = [active.passage for active in passages.active]
    ends: dict[Negatives, slice] = {}
    for kind, others in passages.others.items():
        ends[kind] = slice(len(shown), len(shown) + len(others))
        shown += others
    if not passages.active or not ends:
        return []
    order = np.random.default_rng([explanation.layer, explanation.feature]).permutation(len(shown)).tolist()
    answers: list[bool | None] = [None] * len(shown)
    judged = judge(explanation, [shown[index] for index in order])
    if len(judged) != len(shown):
        raise ValueError(f"the judge {judge.name} has {len(judged)} answers for {len(shown)} passages")
    for index, answer in zip(order, judged, strict=True):
        answers[index] = answer
    of_active = answers[: len(passages.active)]
    quantiles = [active.quantile for active in passages.active]
    scores = (_score(of_active, quantiles, answers[part], kind, judge.name, protocol) for kind, part in ends.items())
    return [score for score in scores if score is not None]


def _score(
    of_active: Answers, quantiles: Sequence[int], of_others: Answers, kind: Negatives, judge: str, protocol: Protocol
) -> ExplanationScore | None:
    """Score of one kind of negatives; None with too few answers of the sample or of the negatives."""
    sampled = _judged([answer for answer, quantile in zip(of_active, quantiles, strict=True) if quantile])
    strongest = _judged([answer for answer, quantile in zip(of_active, quantiles, strict=True) if not quantile])
    others = _judged(of_others)
    if min(len(sampled), len(others)) < MIN_CONTEXTS:
        return None
    return ExplanationScore(
        protocol=protocol,
        negatives=kind,
        judge=judge,
        balanced_accuracy=balanced_accuracy(sampled, ~others),
        strongest=balanced_accuracy(strongest, ~others) if len(strongest) >= MIN_CONTEXTS else None,
        active_contexts=len(sampled),
        other_contexts=len(others),
        unanswered=sum(answer is None for answer in (*of_active, *of_others)),
        quantiles=_by_quantile(of_active, quantiles),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def _judged(answers: Answers) -> np.ndarray:
    return np.array([answer for answer in answers if answer is not None], bool)


def _by_quantile(answers: Answers, quantiles: Sequence[int]) -> list[QuantileScore]:
    rows = []
    for quantile in sorted(set(quantiles)):
        judged = [
            answer
            for answer, number in zip(answers, quantiles, strict=True)
            if number == quantile and answer is not None
        ]
        if judged:
            rows.append(QuantileScore(quantile=quantile, contexts=len(judged), recognised=sum(judged)))
    return rows
