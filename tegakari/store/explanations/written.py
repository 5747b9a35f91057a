"""Explanations of people and language models in memory: the log of a run, replayed, and read on before every use.

Lists are selected on columns: of 100,000 explanations in about a millisecond, by words in about ten.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, TypeAlias

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import structlog

from tegakari.schemas.explanation_log import (
    ExplanationAdded,
    ExplanationRemoved,
    LogEvent,
    LogHeader,
    ScoreAdded,
    VoteChanged,
)
from tegakari.schemas.explanations import Explanation, ExplanationScore, Method, Vote
from tegakari.schemas.run import RunManifest
from tegakari.store.explanations.log_file import Place, decode_lines, is_header_of, log_directory, read_lines
from tegakari.store.folding import folded
from tegakari.store.reader import Run
from tegakari.store.weak_cache import weakly_cached

Key: TypeAlias = tuple[int, int, int]
"""Layer and feature of an explanation, and its number among those of the log: the order of lists."""

MAX_EXPLANATIONS = 1_000_000
"""Explanations in the log of a run; later ones are left out."""
MAX_VOTES = 1000
"""Votes on an explanation."""

_FIRST_ROWS = 1024

log = structlog.get_logger()


class Filters(NamedTuple):
    """Which explanations are listed; None, no words: all."""

    layer: int | None = None
    feature: int | None = None
    method: Method | None = None
    author: str | None = None
    language: str | None = None
    min_score: float | None = None
    words: Collection[str] = ()
    """folded parts that the text contains"""


class Written:
    """What the log of a run says: explanations, and scores and votes of these and of deterministic ones.

    Used in the block of `WrittenLog.read` only, in which it does not change. The explanations have numbers, from 0 in
    the order of the log.
    """

    def __init__(self, manifest: RunManifest) -> None:
        self._widths = dict(zip(manifest.saes.layers, manifest.saes.widths, strict=True))
        self._explanations: list[Explanation] = []
        self._numbers: dict[str, int] = {}
        self._of_feature: dict[tuple[int, int], list[int]] = {}
        self._scores: dict[str, dict[tuple[str, str, str], ExplanationScore]] = {}
        self._votes: dict[str, dict[str, Vote]] = {}
        self._features: dict[str, tuple[int, int]] = {}
        self._columns = np.zeros(_FIRST_ROWS, _ROW)
        self._codes: dict[str, int] = {}
        self._texts: list[pa.Array] = []
        self._order: np.ndarray | None = None

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
            if event.id in self._numbers:
                self._columns["score"][self._numbers[event.id]] = self.complete(self._of_id(event.id)).score
        else:
            self._vote(event)

    def _has_feature(self, layer: int, feature: int) -> bool:
        return feature < self._widths.get(layer, 0)

    def _add(self, explanation: Explanation) -> None:
        feature = explanation.layer, explanation.feature
        if explanation.scores or explanation.votes:
            explanation = msgspec.structs.replace(explanation, scores=[], votes=[])
        if not self._has_feature(*feature) or self._features.setdefault(explanation.id, feature) != feature:
            return
        number = self._numbers.get(explanation.id)
        if number is not None and self._explanations[number].text == explanation.text:
            self._explanations[number] = explanation
        elif number is None and len(self._explanations) < MAX_EXPLANATIONS:
            number = self._numbers[explanation.id] = len(self._explanations)
            self._explanations.append(explanation)
            self._of_feature.setdefault(feature, []).append(number)
            self._order = None
            if number == len(self._columns):
                self._columns = np.concatenate([self._columns, np.zeros(number, _ROW)])
        else:
            return
        names = (explanation.method, explanation.author, explanation.language)
        codes = (self._codes.setdefault(name, len(self._codes)) for name in names)
        self._columns[number] = (True, explanation.layer, explanation.feature, *codes, np.nan)

    def _remove(self, identifier: str) -> None:
        number = self._numbers.pop(identifier, None)
        if number is not None:
            self._columns["stored"][number] = False
            self._of_feature[self._features[identifier]].remove(number)
        for values in (self._scores, self._votes, self._features):
            values.pop(identifier, None)

    def _vote(self, event: VoteChanged) -> None:
        votes = self._votes.setdefault(event.id, {})
        votes.pop(event.author, None)
        if event.value != 0 and len(votes) < MAX_VOTES:
            votes[event.author] = Vote(author=event.author, value=event.value, created=event.created)

    def __len__(self) -> int:
        """Number of explanations."""
        return len(self._numbers)

    def count(self, layer: int, feature: int) -> int:
        """Number of explanations of a feature."""
        return len(self._of_feature.get((layer, feature), ()))

    def get(self, identifier: str) -> Explanation | None:
        """The explanation with an id, with scores and votes."""
        return self.complete(self._of_id(identifier)) if identifier in self._numbers else None

    def _of_id(self, identifier: str) -> Explanation:
        return self._explanations[self._numbers[identifier]]

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
        """The explanations of a feature, in the order of the log."""
        return [self.complete(self._explanations[number]) for number in self._of_feature.get((layer, feature), ())]

    def __iter__(self) -> Iterator[Explanation]:
        """Explanations, with scores and votes, in the order of the log."""
        return (self.complete(self._explanations[number]) for number in self._numbers.values())

    def judged_features(self) -> dict[int, set[int]]:
        """Layer -> features of which an explanation has a score or a vote in the log."""
        features: dict[int, set[int]] = {}
        for identifier in self._scores.keys() | self._votes.keys():
            layer, feature = self._features[identifier]
            features.setdefault(layer, set()).add(feature)
        return features

    def scored_features(self) -> Collection[tuple[int, int]]:
        """Features of which an explanation has a score in the log."""
        return {self._features[identifier] for identifier in self._scores}

    def after(self, last: Key | None, filters: Filters, limit: int) -> list[tuple[Key, Explanation]]:
        """The first explanations that pass the filters, by layer, feature and number.

        Args:
            last: key of the explanation before the first; None: from the beginning.
            filters: of the list.
            limit: number of explanations.
        """
        columns = self._columns[: len(self._explanations)]
        selected = columns["stored"].copy()
        for name in ("layer", "feature"):
            if (value := getattr(filters, name)) is not None:
                selected &= columns[name] == value
        for name in ("method", "author", "language"):
            if (value := getattr(filters, name)) is not None:
                selected &= columns[name] == self._codes.get(value, -1)
        if filters.min_score is not None:
            selected &= columns["score"] >= filters.min_score
        if last is not None:
            layer, feature, number = last
            later = (columns["feature"] == feature) & (np.arange(len(columns)) > number)
            later |= columns["feature"] > feature
            selected &= (columns["layer"] > layer) | ((columns["layer"] == layer) & later)
        if filters.words and selected.any():
            selected &= self._contain(filters.words)
        if self._order is None:
            self._order = np.lexsort((columns["feature"], columns["layer"]))  # stable: by number then
        numbers = self._order[selected[self._order]][:limit].tolist()
        rows = [(number, self.complete(self._explanations[number])) for number in numbers]
        return [((row.layer, row.feature, number), row) for number, row in rows]

    def _contain(self, words: Collection[str]) -> np.ndarray:
        """Whether texts contain all words, bool [explanations]."""
        done = sum(map(len, self._texts))
        if done < len(self._explanations):
            self._texts.append(pa.array([folded(row.text) for row in self._explanations[done:]], pa.string()))
            self._texts = [pa.concat_arrays(self._texts)] if len(self._texts) > _MAX_PARTS else self._texts
        texts = pa.chunked_array(self._texts, pa.string())
        contain = np.ones(len(texts), bool)
        for word in words:
            matches = pc.call_function("match_substring", [texts], pc.MatchSubstringOptions(word))
            contain &= matches.to_numpy()
        return contain


_ROW = np.dtype(
    [
        ("stored", bool),
        ("layer", np.int32),
        ("feature", np.int32),
        ("method", np.int32),
        ("author", np.int32),
        ("language", np.int32),
        ("score", np.float64),
    ]
)
"""Columns of filters; names by their codes. A score of NaN is none."""

_MAX_PARTS = 100
"""Arrays of folded texts: each search after new explanations adds one."""


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
