"""Explanations of people and language models in memory: the log of a run, replayed, and read on before every use."""

from __future__ import annotations

import threading
from bisect import bisect_right
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeAlias

import msgspec
import structlog

from tegakari.schemas.explanation_log import (
    ExplanationAdded,
    ExplanationRemoved,
    LogEvent,
    LogHeader,
    ScoreAdded,
    VoteChanged,
)
from tegakari.schemas.explanations import Explanation, ExplanationScore, Vote
from tegakari.schemas.run import RunManifest
from tegakari.store.explanations.log_file import Place, decode_lines, is_header_of, log_directory, read_lines
from tegakari.store.folding import folded
from tegakari.store.reader import Run
from tegakari.store.weak_cache import weakly_cached

Key: TypeAlias = tuple[int, int, str, str]
"""Layer, feature, time and id of an explanation: the order of lists."""

MAX_EXPLANATIONS = 1_000_000
"""Explanations of a run that are kept in memory; later ones are left out."""
MAX_VOTES = 1000
"""Votes on an explanation."""

log = structlog.get_logger()


def key_of(explanation: Explanation) -> Key:
    """Place of an explanation in lists."""
    return explanation.layer, explanation.feature, explanation.created, explanation.id


class Written:
    """What the log of a run says: explanations, and scores and votes of these and of deterministic ones.

    Used in the block of `WrittenLog.read` only, in which it does not change.
    """

    def __init__(self, manifest: RunManifest) -> None:
        self._widths = dict(zip(manifest.saes.layers, manifest.saes.widths, strict=True))
        self._explanations: dict[str, Explanation] = {}
        self._ids: dict[tuple[int, int], list[str]] = {}
        self._scores: dict[str, dict[tuple[str, str, str], ExplanationScore]] = {}
        self._votes: dict[str, dict[str, Vote]] = {}
        self._features: dict[str, tuple[int, int]] = {}
        self._folded: dict[str, str] = {}
        self._keys: list[Key] | None = None

    def replay(self, event: LogEvent) -> None:
        """Take one event of the log."""
        if isinstance(event, ExplanationAdded):
            self._add(event.explanation)
            return
        if not self._has_feature(event.layer, event.feature):
            return
        if isinstance(event, ExplanationRemoved):
            self._remove(event.id)
            return
        if self._features.setdefault(event.id, (event.layer, event.feature)) != (event.layer, event.feature):
            return
        if isinstance(event, ScoreAdded):
            score = event.score
            self._scores.setdefault(event.id, {})[score.protocol, score.negatives, score.judge] = score
        else:
            self._vote(event)

    def _has_feature(self, layer: int, feature: int) -> bool:
        return feature < self._widths.get(layer, 0)

    def _add(self, explanation: Explanation) -> None:
        feature = explanation.layer, explanation.feature
        if not self._has_feature(*feature) or len(self._explanations) >= MAX_EXPLANATIONS:
            return
        if self._features.setdefault(explanation.id, feature) != feature:
            return
        if explanation.id not in self._explanations:
            self._ids.setdefault(feature, []).append(explanation.id)
        self._explanations[explanation.id] = msgspec.structs.replace(explanation, scores=[], votes=[])
        self._folded.pop(explanation.id, None)
        self._keys = None

    def _remove(self, identifier: str) -> None:
        explanation = self._explanations.pop(identifier, None)
        if explanation is not None:
            self._ids[explanation.layer, explanation.feature].remove(identifier)
            self._keys = None
        for values in (self._scores, self._votes, self._features, self._folded):
            values.pop(identifier, None)

    def _vote(self, event: VoteChanged) -> None:
        votes = self._votes.setdefault(event.id, {})
        votes.pop(event.author, None)
        if event.value != 0 and len(votes) < MAX_VOTES:
            votes[event.author] = Vote(author=event.author, value=event.value, created=event.created)

    def __len__(self) -> int:
        """Number of explanations."""
        return len(self._explanations)

    def count(self, layer: int, feature: int) -> int:
        """Number of explanations of a feature."""
        return len(self._ids.get((layer, feature), ()))

    def get(self, identifier: str) -> Explanation | None:
        """The explanation with an id, with scores and votes."""
        explanation = self._explanations.get(identifier)
        return None if explanation is None else self.complete(explanation)

    def complete(self, explanation: Explanation) -> Explanation:
        """An explanation of the log or a deterministic one, with its scores and votes."""
        scores, votes = self._scores.get(explanation.id), self._votes.get(explanation.id)
        if not scores and not votes:
            return explanation
        return msgspec.structs.replace(
            explanation,
            scores=[score for _, score in sorted((scores or {}).items())] or explanation.scores,
            votes=[vote for _, vote in sorted((votes or {}).items())],
        )

    def of_feature(self, layer: int, feature: int) -> list[Explanation]:
        """The explanations of a feature, in the order of lists."""
        explanations = (self._explanations[identifier] for identifier in self._ids.get((layer, feature), ()))
        return [self.complete(explanation) for explanation in sorted(explanations, key=key_of)]

    def scored_features(self) -> Collection[tuple[int, int]]:
        """Features of which an explanation has a score in the log."""
        return {self._features[identifier] for identifier in self._scores}

    def after(
        self, last: Key | None, selected: Callable[[Explanation], bool], words: Collection[str], layer: int | None
    ) -> Iterator[Explanation]:
        """Explanations in the order of lists.

        Args:
            last: key of the explanation before the first; None: from the beginning.
            selected: whether an explanation, without scores and votes, is listed.
            words: folded parts that its text contains.
            layer: the only layer; None: all.
        """
        if self._keys is None:
            self._keys = sorted(map(key_of, self._explanations.values()))
        start = max(last or (-1, -1, "", ""), (-1 if layer is None else layer, -1, "", ""))
        for number in range(bisect_right(self._keys, start), len(self._keys)):
            key = self._keys[number]
            if layer is not None and key[0] != layer:
                return
            explanation = self._explanations[key[3]]
            if selected(explanation) and (not words or self._has_words(explanation, words)):
                yield self.complete(explanation)

    def _has_words(self, explanation: Explanation, words: Collection[str]) -> bool:
        text = self._folded.get(explanation.id)
        if text is None:
            text = self._folded[explanation.id] = folded(explanation.text)
        return all(word in text for word in words)


class WrittenLog:
    """The log of a run, kept in memory. Safe to share between threads."""

    def __init__(self, store: Path, manifest: RunManifest) -> None:
        self._directory = log_directory(store, manifest)
        self._manifest = manifest
        self._lock = threading.Lock()
        self._place: Place | None = None
        self._readable = False
        self._written = Written(manifest)

    @contextmanager
    def read(self) -> Iterator[Written]:
        """What the log says now."""
        with self._lock:
            self._read_on()
            yield self._written

    def _read_on(self) -> None:
        changed, lines, place = read_lines(self._directory, self._place)
        if changed:
            self._written, self._place, self._readable = Written(self._manifest), None, False
        begins = self._place is None or self._place.size == 0
        self._place = place
        if begins and lines:
            header = next(decode_lines(self._directory, lines[:1]), None)
            self._readable = header is not None and is_header_of(header, self._manifest)
            if not self._readable:
                log.warning(
                    "explanations left out",
                    directory=self._directory.name,
                    reason="the log belongs to another run or version",
                )
            del lines[0]
        if self._readable:
            for line in decode_lines(self._directory, lines):
                if not isinstance(line, LogHeader):
                    self._written.replay(line)


@weakly_cached(maxsize=64)
def written_log(run: Run) -> WrittenLog:
    """The log of a run; one object per run and process."""
    return WrittenLog(run.store, run.manifest)
