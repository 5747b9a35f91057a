"""Passages that a judge is shown to score an explanation: held-out contexts of the feature, and three kinds of others.

A passage is the window of whole words that explanations are made from (`terms/windows.py`). Contexts in which the
feature is active are those that no explanation is made from (`terms/held_out.py`). All others are of probes, of which
is known that the feature is active at none of their tokens.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from tegakari.schemas.errors import NotFoundError
from tegakari.schemas.explanations import Negatives, Protocol
from tegakari.store import Run, queries
from tegakari.store.contexts import FeatureContexts, Probes, feature_contexts, probes, silent_probes
from tegakari.store.weak_cache import weakly_cached
from tegakari.terms.held_out import held_out, pairs_of
from tegakari.terms.windows import AFTER, BEFORE
from tegakari.terms.words import cut

OTHERS = 10
"""Passages of each kind of negatives: as many as there are tenths of the activations."""

MARKED = 0.3
"""Share of a window's largest activation from which a token is marked."""

NEIGHBOURS = 20
"""Features of the layer with the nearest decoder directions, whose contexts are negatives."""


class Passage(NamedTuple):
    """A text that a judge is shown."""

    text: str
    marks: tuple[tuple[int, int], ...] = ()
    """first character, and the one after the last, of each run of marked tokens; detection has none"""

    def marked(self, before: str, after: str) -> str:
        """The text with strings around its marks; the strings themselves are removed from the text first."""
        parts, end = [], 0
        for start, stop in self.marks:
            parts += [self.text[end:start], before, self.text[start:stop], after]
            end = stop
        plain = [part if part in (before, after) else part.replace(before, "").replace(after, "") for part in parts]
        return "".join(plain) + self.text[end:].replace(before, "").replace(after, "")


class Active(NamedTuple):
    """A held-out context in which the feature is active."""

    passage: Passage
    quantile: int


class Passages(NamedTuple):
    """What a judge is shown of one feature."""

    active: list[Active]
    others: dict[Negatives, list[Passage]]
    """kind -> passages; a kind of which there are none is absent."""


def feature_passages(run: Run, layer: int, feature: int, protocol: Protocol) -> Passages:
    """The passages of a feature; equal arguments give equal passages.

    Negatives of the kinds `random` and `silent` stand at the same relative places in their documents as the active
    contexts. In the protocol `fuzzing` they have as many marked tokens, drawn at random.

    Args:
        run: published, with contexts.
        layer: of the run.
        feature: of the layer.
        protocol: detection, or fuzzing with marked tokens.

    Raises:
        NotFoundError: no such layer or feature, or the run has no contexts.
        StoreError: the run is damaged.
    """
    place = queries.feature_place(run, layer, feature)
    contexts = feature_contexts(run, layer, feature)
    of_feature = np.full(len(contexts.document), feature, np.int32)
    pair = pairs_of(of_feature, contexts.document)
    rows = np.flatnonzero(held_out(of_feature, contexts.quantile, pair))
    if not len(rows):
        return Passages([], {})
    draws = np.random.default_rng([layer, feature])
    fuzzing = protocol == "fuzzing"
    windows = [_Window(run, *pair) for pair in zip(*_columns(contexts, rows), strict=True)]
    tokens = [_marked_tokens(contexts, row) if fuzzing else [] for row in rows.tolist()]
    active = [
        Active(window.passage(marked), int(quantile))
        for window, marked, quantile in zip(windows, tokens, contexts.quantile[rows], strict=True)
    ]
    if fuzzing:  # a mark on a token without characters, which a head may read, cannot be seen
        active = [context for context in active if context.passage.marks]
    others: dict[Negatives, list[Passage]] = {}
    for kind, positions in _others(run, layer, feature, place, windows, draws):
        passages = []
        for index, (document, position) in enumerate(positions):
            window = _Window(run, document, position)
            marked = window.draw(len(tokens[index % len(tokens)]), draws) if fuzzing else []
            passages.append(window.passage(marked))
        if fuzzing:
            passages = [passage for passage in passages if passage.marks]
        if passages:
            others[kind] = passages
    return Passages(active, others)


def _columns(contexts: FeatureContexts, rows: np.ndarray) -> tuple[list[int], list[int]]:
    return contexts.document[rows].tolist(), contexts.position[rows].tolist()


def _marked_tokens(contexts: FeatureContexts, row: int) -> list[int]:
    """Tokens of a context whose activation is at least MARKED of its largest."""
    activations = contexts.activations[row, : contexts.length[row]]
    marked = np.flatnonzero((activations > 0) & (activations >= MARKED * activations.max()))
    return (contexts.start[row] + marked).tolist()


def _others(
    run: Run, layer: int, feature: int, place: int, windows: Sequence[_Window], draws: np.random.Generator
) -> Iterator[tuple[Negatives, list[tuple[int, int]]]]:
    """Documents and positions of each kind of negatives."""
    all_probes = probes(run)
    silent = silent_probes(run, layer, feature)
    yield "random", _placed(run, all_probes.document[silent], windows, draws)
    yield "neighbour", list(_of_neighbours(run, layer, feature, all_probes, silent))
    label_id = best_label_id(run, place)
    if label_id is not None:
        of_label = silent & (all_probes.label_id == label_id)
        yield "silent", _placed(run, all_probes.document[of_label], windows, draws)


def best_label_id(run: Run, place: int) -> int | None:
    """Label of a feature's largest d by the run's pooling; None without one."""
    d = run.blocks.statistics["d", run.manifest.pooling][:, place]
    return None if np.isnan(d).all() else int(np.nanargmax(d))


def _placed(
    run: Run, documents: np.ndarray, windows: Sequence[_Window], draws: np.random.Generator
) -> list[tuple[int, int]]:
    """Drawn documents, at the relative places of windows in theirs."""
    first = run.blocks.documents.first_token
    chosen = draws.permutation(documents)[:OTHERS].tolist()
    places = [windows[index % len(windows)].relative_place for index in range(len(chosen))]
    return [
        (document, round(place * int(first[document + 1] - first[document] - 1)))
        for document, place in zip(chosen, places, strict=True)
    ]


def _of_neighbours(
    run: Run, layer: int, feature: int, all_probes: Probes, silent: np.ndarray
) -> Iterator[tuple[int, int]]:
    """Contexts of the nearest features in probes where this one is silent; one per document, nearest first."""
    documents = set(all_probes.document[silent].tolist())
    found = 0
    for neighbour in _neighbours(run, layer, feature):
        contexts = feature_contexts(run, layer, neighbour)
        for document, position in zip(contexts.document.tolist(), contexts.position.tolist(), strict=True):
            if document in documents:
                documents.remove(document)
                yield document, position
                found += 1
                if found == OTHERS:
                    return


def _neighbours(run: Run, layer: int, feature: int) -> list[int]:
    """Features of a layer with the nearest decoder directions; none if the run has no vectors."""
    try:
        directions = _directions(run, layer)
    except NotFoundError:
        if not run.is_published():
            raise
        return []
    cosine = directions @ directions[feature]
    cosine[feature] = -np.inf
    return np.argsort(-cosine, kind="stable")[:NEIGHBOURS].tolist()


@weakly_cached(maxsize=4)
def _directions(run: Run, layer: int) -> np.ndarray:
    """Decoder directions of length 1, float32 [d_sae, d_model]."""
    directions = queries.decoder_directions(run, layer)
    return directions / np.maximum(np.linalg.norm(directions, axis=1, keepdims=True), 1e-12)


class _Window:
    """The window of whole words around a position, and the tokens in it."""

    def __init__(self, run: Run, document: int, position: int) -> None:
        documents = run.blocks.documents
        first, stop = int(documents.first_token[document]), int(documents.first_token[document + 1])
        self._starts = documents.token_starts[first:stop].tolist()
        self._ends = documents.token_ends[first:stop].tolist()
        self._text, spans = _cut_document(run, document)
        self._position = position
        self._low, self._high = max(position - BEFORE, 0), min(position + AFTER, stop - first - 1)
        covering = [token for token in self._tokens() if self._ends[token] > self._starts[token]]
        start = min((self._starts[token] for token in covering), default=0)
        end = max((self._ends[token] for token in covering), default=0)
        words = [span for span in spans if span[1] > start and span[0] < end]
        self._start, self._end = (words[0][0], words[-1][1]) if words else (start, end)

    @property
    def relative_place(self) -> float:
        """0: the first token, 1: the last."""
        return self._position / max(len(self._starts) - 1, 1)

    def draw(self, count: int, draws: np.random.Generator) -> list[int]:
        """Tokens of the window with characters, at random."""
        covering = [token for token in self._tokens() if self._ends[token] > self._starts[token]]
        return sorted(draws.permutation(covering)[:count].tolist())

    def passage(self, marked: Sequence[int]) -> Passage:
        """The window's text, with marks on tokens; tokens without characters have none."""
        marks: list[tuple[int, int]] = []
        for token in marked:
            start, end = max(self._starts[token], self._start), min(self._ends[token], self._end)
            if start >= end:
                continue
            if marks and start - self._start <= marks[-1][1]:
                marks[-1] = (marks[-1][0], max(marks[-1][1], end - self._start))
            else:
                marks.append((start - self._start, end - self._start))
        return Passage(self._text[self._start : self._end], tuple(marks))

    def _tokens(self) -> range:
        return range(self._low, self._high + 1)


@weakly_cached(maxsize=4096)
def _cut_document(run: Run, document: int) -> tuple[str, list[tuple[int, int]]]:
    """Text of a document, and the spans of its words."""
    text = run.blocks.documents.text[document].as_py()
    return text, cut(text)
