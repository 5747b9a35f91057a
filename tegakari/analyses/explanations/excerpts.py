"""Excerpts of documents in which a feature is active, as a language model is shown them."""

from __future__ import annotations

from typing import NamedTuple

import msgspec
import numpy as np

from tegakari.store import Run
from tegakari.store.contexts import STRONGEST, FeatureContexts
from tegakari.terms.held_out import explaining, held_out, pairs_of

BEFORE_MARK, AFTER_MARK = "<<", ">>"
MARKED = 0.5
"""Share of an excerpt's largest activation from which a token is marked."""
LEVELS = 10
"""Activations are shown as whole numbers from 1 to this, the largest of the feature."""
LISTED = 4
"""Strongest tokens of an excerpt that are listed with their activation."""


class Excerpt(NamedTuple):
    """An excerpt in a prompt."""

    text: str
    """a JSON string, with marks"""
    active: str
    """the strongest tokens as JSON strings, with their level"""


def feature_excerpts(run: Run, feature: int, contexts: FeatureContexts, count: int) -> list[Excerpt]:
    """Excerpts of a feature: half of them of its strongest positions, half of the tenths of its activations.

    Contexts that are held out to score explanations are left out, and a document is shown once.

    Args:
        run: with contexts.
        feature: number in its layer.
        contexts: of the feature.
        count: maximum number of excerpts.

    Returns:
        strongest first; none if the feature is never active.
    """
    of_feature = np.full(len(contexts.document), feature, np.int32)
    pair = pairs_of(of_feature, contexts.document)
    rows = np.flatnonzero(explaining(pair, held_out(of_feature, contexts.quantile, pair)))
    rows = rows[np.argsort(-contexts.activation[rows], kind="stable")]
    _, first = np.unique(contexts.document[rows], return_index=True)
    rows = rows[np.sort(first)]
    strongest = rows[contexts.quantile[rows] == STRONGEST]
    sampled = rows[contexts.quantile[rows] != STRONGEST]
    of_sample = min(len(sampled), max(count // 2, count - len(strongest)))
    chosen = np.linspace(0, len(sampled) - 1, of_sample).round().astype(int) if of_sample else []
    rows = np.concatenate([strongest[: count - of_sample], sampled[chosen]]).astype(int)
    rows = rows[np.argsort(-contexts.activation[rows], kind="stable")]
    largest = float(contexts.activation.max(initial=0))
    return [_excerpt(run, contexts, row, largest) for row in rows.tolist()]


def _excerpt(run: Run, contexts: FeatureContexts, row: int, largest: float) -> Excerpt:
    documents = run.blocks.documents
    document, start, length = (int(column[row]) for column in (contexts.document, contexts.start, contexts.length))
    text = documents.text[document].as_py()
    first = int(documents.first_token[document]) + start
    starts = documents.token_starts[first : first + length].tolist()
    ends = documents.token_ends[first : first + length].tolist()
    activations = contexts.activations[row, :length]
    marked = activations >= max(MARKED * activations.max(initial=0), np.finfo(np.float32).tiny)
    spans = _joined([(starts[token], ends[token]) for token in np.flatnonzero(marked).tolist()])
    order = np.argsort(-activations, kind="stable")[:LISTED].tolist()
    listed = [
        f"{_json(text[starts[token] : ends[token]])} {max(1, round(LEVELS * float(activations[token]) / largest))}"
        for token in order
        if activations[token] > 0 and ends[token] > starts[token]
    ]
    return Excerpt(_json(with_marks(text, min(starts), max(ends), spans)), ", ".join(listed) or "no visible token")


def _joined(spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Spans of characters in order, neighbours joined, empty ones left out."""
    joined: list[tuple[int, int]] = []
    for start, end in spans:
        if joined and start <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(joined[-1][1], end))
        elif start < end:
            joined.append((start, end))
    return joined


def with_marks(text: str, start: int, end: int, spans: list[tuple[int, int]]) -> str:
    """A part of a text with marks around spans of characters; what looks like a mark in the text is parted."""
    parts, position = [], start
    for low, high in spans:
        parts += [_parted(text[position:low]), BEFORE_MARK, _parted(text[low:high]), AFTER_MARK]
        position = high
    return "".join([*parts, _parted(text[position:end])])


def _parted(text: str) -> str:
    return text.replace(BEFORE_MARK, "< <").replace(AFTER_MARK, "> >")


def _json(text: str) -> str:
    """A text as a JSON string: no post can end the string that it is in."""
    return msgspec.json.encode(text).decode()
