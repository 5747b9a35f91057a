"""Contexts of a feature as a page shows them: tokens with their activations, the strongest, and some of each tenth."""

from __future__ import annotations

from itertools import groupby
from typing import NamedTuple

from tegakari.schemas.api import FeatureContext
from tegakari.schemas.errors import NotFoundError
from tegakari.store import Run, queries
from tegakari.store.contexts import STRONGEST

STRONGEST_SHOWN = 20


class ContextToken(NamedTuple):
    """A token of a context that has characters."""

    text: str
    activation: float
    """the largest of the pieces of its character"""
    peak: bool
    """whether it is the position of the context"""


class Context(NamedTuple):
    """A window of tokens around a position at which a feature is active."""

    document: str
    label: str
    activation: float
    tokens: list[ContextToken]


class ContextGroups(NamedTuple):
    """Contexts of a feature."""

    strongest: list[Context]
    """by activation"""
    tenths: list[tuple[int, list[Context]]]
    """sampled contexts of each tenth, the strongest tenth first"""
    largest: float
    """activation of the strongest context"""


def context_groups(run: Run, layer: int, feature: int, tokens_beside: int) -> ContextGroups | None:
    """Contexts of a feature; None: the run has none, as those of format 3.

    Args:
        run: published.
        layer: of the feature.
        feature: its number in the layer.
        tokens_beside: tokens of a context on each side of its position.
    """
    try:
        page = queries.feature_contexts(run, layer, feature, limit=queries.MAX_PAGE)
        rows = page.items
        while page.next:
            page = queries.feature_contexts(run, layer, feature, limit=queries.MAX_PAGE, cursor=page.next)
            rows += page.items
    except NotFoundError:
        return None
    groups = {
        quantile: [shown_context(row, tokens_beside) for row in list(group)[:STRONGEST_SHOWN]]
        for quantile, group in groupby(rows, lambda row: row.quantile)
    }
    strongest = groups.pop(STRONGEST, [])
    return ContextGroups(strongest, sorted(groups.items(), reverse=True), strongest[0].activation if strongest else 0.0)


def shown_context(row: FeatureContext, tokens_beside: int) -> Context:
    """A context without tokens that have no characters, cut to a number of tokens on each side of its position."""
    peak = row.position - row.start
    first, last = max(0, peak - tokens_beside), peak + tokens_beside + 1
    while first > 0 and not row.tokens[first]:  # the first piece of a character has its text
        first -= 1
    tokens: list[ContextToken] = []
    for place in range(first, min(last, len(row.tokens))):
        text, activation, is_peak = row.tokens[place], row.activations[place], place == peak
        if text:
            tokens.append(ContextToken(text, activation, is_peak))
        elif tokens:
            before = tokens[-1]
            tokens[-1] = ContextToken(before.text, max(before.activation, activation), before.peak or is_peak)
    return Context(row.document, row.label, row.activation, tokens)
