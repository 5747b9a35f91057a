"""Changes of the explanations of a run: written, voted on, deleted, scored; every change is a line of its log."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import NamedTuple

import msgspec

from tegakari.schemas.errors import NotFoundError, QueryError
from tegakari.schemas.explanation_log import ExplanationAdded, ExplanationRemoved, LogEvent, ScoreAdded, VoteChanged
from tegakari.schemas.explanations import (
    Explanation,
    ExplanationScore,
    NewExplanation,
    VoteChange,
    explanation_id,
)
from tegakari.store.explanations.log_file import locked_log
from tegakari.store.explanations.terms import term_explanations
from tegakari.store.explanations.written import MAX_EXPLANATIONS, MAX_VOTES, Written, written_log
from tegakari.store.field_checks import check_name, checked
from tegakari.store.queries.parameters import feature_place
from tegakari.store.reader import Run

MAX_OF_FEATURE = 100
"""Explanations of a feature by people and language models."""


_JAPANESE = re.compile("[\u3041-\u30ff\u3400-\u4dbf\u4e00-\u9fff]")
"""Hiragana, katakana, Chinese characters."""


class NewScore(NamedTuple):
    """A score of an explanation that is stored already."""

    explanation: Explanation
    score: ExplanationScore


def write_explanation(run: Run, layer: int, feature: int, author: str, new: NewExplanation) -> Explanation:
    """Add an explanation of a person; the same text of the same author is added once.

    Args:
        run: the run.
        layer: of the feature.
        feature: its number in the layer.
        author: of the explanation; that of `new` is not read.
        new: text and language.

    Raises:
        NotFoundError: no such layer or feature.
        QueryError: a field has a value that is not allowed, or the feature has MAX_OF_FEATURE explanations.
        StoreError: the explanation cannot be written.
    """
    feature_place(run, layer, feature)
    new = checked(msgspec.structs.replace(new, author=author, text=one_line(new.text)))
    check_name("author", author)
    explanation = Explanation(
        id=explanation_id(layer, feature, "person", author, new.text),
        layer=layer,
        feature=feature,
        text=new.text,
        language=new.language or language_of(new.text),
        method="person",
        author=author,
        created=_now(),
    )
    with locked_log(run.store, run.manifest) as log:
        with written_log(run).read() as written:
            stored = written.get(explanation.id)
            if stored is not None and stored.language == explanation.language:
                return stored
            if stored is None:
                _check_room(written, run, layer, feature)
        log.append([ExplanationAdded(explanation=explanation)])
    return explanation


def vote(run: Run, layer: int, feature: int, identifier: str, author: str, change: VoteChange) -> Explanation:
    """Change the vote of an author on an explanation, and return the explanation.

    Raises:
        NotFoundError: no such layer, feature or explanation.
        QueryError: a field has a value that is not allowed, or the explanation has MAX_VOTES votes.
        StoreError: the vote cannot be written.
    """
    feature_place(run, layer, feature)
    change = checked(msgspec.structs.replace(change, author=author))
    check_name("author", author)
    with locked_log(run.store, run.manifest) as log:
        with written_log(run).read() as written:
            explanation = _find(run, written, layer, feature, identifier)
            before = {vote.author: vote.value for vote in explanation.votes}
            if before.get(author, 0) == change.value:
                return explanation
            if author not in before and len(before) >= MAX_VOTES:
                raise QueryError(f"the explanation has {MAX_VOTES:,} votes", field="value", fix="write an explanation")
        event = VoteChanged(
            id=identifier, layer=layer, feature=feature, author=author, value=change.value, created=_now()
        )
        log.append([event])
    with written_log(run).read() as written:
        return _find(run, written, layer, feature, identifier)


def delete_explanation(run: Run, layer: int, feature: int, identifier: str, author: str) -> Explanation:
    """Remove an explanation of an author, a person or a language model, and return it.

    Raises:
        NotFoundError: no such layer or feature, or the author has no such explanation of it.
        QueryError: the explanation is a deterministic one.
        StoreError: it cannot be removed.
    """
    feature_place(run, layer, feature)
    with written_log(run).read() as written:
        explanation = _find(run, written, layer, feature, identifier)
    if explanation.method == "terms":
        raise QueryError(
            "a deterministic explanation is a part of its run", field="explanation", fix="vote against it, or write one"
        )
    if explanation.author != author:
        raise NotFoundError(
            f"explanation {identifier} is of {explanation.author!r}, not of {author!r}",
            field="author",
            fix="name its author",
        )
    with locked_log(run.store, run.manifest) as log:
        log.append([ExplanationRemoved(id=identifier, layer=layer, feature=feature, created=_now())])
    return explanation


def add_explanations(run: Run, explanations: Sequence[Explanation]) -> int:
    """Add explanations of language models or of a file; those that are stored already are left as they are.

    Returns:
        number of explanations that are new.

    Raises:
        QueryError: a feature would have more than MAX_OF_FEATURE explanations.
        StoreError: they cannot be written; none is added.
    """
    events: list[LogEvent] = []
    with locked_log(run.store, run.manifest) as log:
        with written_log(run).read() as written:
            new = {row.id: row for row in explanations if written.get(row.id) is None}
            of_features = Counter((row.layer, row.feature) for row in new.values())
            for (layer, feature), count in of_features.items():
                _check_room(written, run, layer, feature, count)
            events += [ExplanationAdded(explanation=explanation) for explanation in new.values()]
        log.append(events)
    return len(events)


def add_scores(run: Run, scores: Sequence[NewScore]) -> None:
    """Add scores of explanations; each replaces the one of the same protocol, negatives and judge.

    Raises:
        StoreError: they cannot be written; none is added.
    """
    with locked_log(run.store, run.manifest) as log:
        log.append(
            [
                ScoreAdded(id=explanation.id, layer=explanation.layer, feature=explanation.feature, score=score)
                for explanation, score in scores
            ]
        )


def one_line(text: str) -> str:
    """A text without control characters and line breaks, with single spaces."""
    visible = "".join(" " if unicodedata.category(letter) in ("Cc", "Zl", "Zp") else letter for letter in text)
    return " ".join(visible.split())


def language_of(text: str) -> str:
    """Ja for a text with Japanese letters or Chinese characters, else en."""
    return "ja" if _JAPANESE.search(unicodedata.normalize("NFKC", text)) else "en"


def _find(run: Run, written: Written, layer: int, feature: int, identifier: str) -> Explanation:
    """The explanation of a feature with an id.

    Raises:
        NotFoundError: the feature has no such explanation.
    """
    explanation = written.get(identifier)
    if explanation is not None and (explanation.layer, explanation.feature) == (layer, feature):
        return explanation
    for deterministic in term_explanations(run, layer, [feature]):
        if deterministic.id == identifier:
            return written.complete(deterministic)
    raise NotFoundError(
        f"feature {layer}:{feature} of run {run.name} has no explanation {identifier!r}",
        field="explanation",
        fix="the list of the feature's explanations shows their ids",
    )


def _check_room(written: Written, run: Run, layer: int, feature: int, new: int = 1) -> None:
    """Refuse new explanations of a feature beyond the limits.

    Raises:
        QueryError: of a feature, or of the run.
    """
    if written.count(layer, feature) + new > MAX_OF_FEATURE:
        raise QueryError(
            f"feature {layer}:{feature} would have more than {MAX_OF_FEATURE} explanations",
            field="explanation",
            fix="delete some",
        )
    if len(written) >= MAX_EXPLANATIONS:
        raise QueryError(
            f"run {run.name} has {MAX_EXPLANATIONS:,} explanations", field="explanation", fix="delete some"
        )


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
