"""Lists of explanations: of a run by filters and words, of a feature, and the best one per feature."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection
from heapq import merge
from itertools import islice
from operator import itemgetter

from tegakari.schemas.api import Page
from tegakari.schemas.errors import QueryError
from tegakari.schemas.explanations import LANGUAGE_PATTERN, METHODS, Explanation, Method
from tegakari.store.explanations.terms import AUTHOR, term_explanations, terms_after
from tegakari.store.explanations.written import Filters, Key, written_log
from tegakari.store.folding import folded
from tegakari.store.queries.cursor import list_name, read_cursor, write_cursor
from tegakari.store.queries.parameters import check_finite, check_limit, feature_place
from tegakari.store.reader import Run


def explanations(
    run: Run,
    *,
    layer: int | None = None,
    feature: int | None = None,
    method: Method | None = None,
    author: str | None = None,
    language: str | None = None,
    min_score: float | None = None,
    q: str | None = None,
    limit: int = 50,
    cursor: str | None = None,
) -> Page[Explanation]:
    """Explanations of features of a run that pass every filter, by layer, feature and time.

    Args:
        run: the run.
        layer: only explanations of features of this layer.
        feature: only explanations of features of this number.
        method: only explanations of this method: terms, model or person.
        author: only explanations of this author: tegakari, the name of a language model, or a person.
        language: only explanations in this language, as ja or en.
        min_score: only explanations whose detection has at least this balanced accuracy, mean over its scores.
        q: only explanations with all these words in their text; case and width of characters are ignored.
        limit: rows per page.
        cursor: `next` of the page before; explanations that were written since then appear in their place.

    Raises:
        QueryError: a filter has a value that is not allowed, or the limit is out of range.
        CursorError: the cursor does not come from a page of this list.
    """
    check_limit(limit)
    check_finite("min_score", min_score)
    if method not in (None, *METHODS):
        raise QueryError(f"{method!r} is not a method", field="method", fix=f"use one of: {', '.join(METHODS)}")
    if language is not None and not re.fullmatch(LANGUAGE_PATTERN, language):
        raise QueryError(f"{language!r} is no language", field="language", fix="give its code, as ja or en")
    words = folded(q or "").split()
    filters = Filters(layer, feature, method, author, language, min_score, words)
    list_ = list_name(run, "explanations", *filters)
    last = read_cursor(cursor, list_, Key) if cursor else None
    with written_log(run).read() as written:
        rows = written.after(last, filters, limit + 1)
        if method in (None, "terms") and author in (None, AUTHOR):
            deterministic = terms_after(run, written, last, filters, limit + 1)
            rows = list(islice(merge(rows, deterministic, key=itemgetter(0)), limit + 1))
    following = write_cursor(list_, rows[limit - 1][0]) if len(rows) > limit else None
    return Page([row for _, row in rows[:limit]], following)


def feature_explanations(run: Run, layer: int, feature: int) -> list[Explanation]:
    """Explanations of a feature, the best first (`order_of`).

    Raises:
        NotFoundError: no such layer or feature.
    """
    feature_place(run, layer, feature)
    with written_log(run).read() as written:
        deterministic = map(written.complete, term_explanations(run, layer, [feature]))
        return sorted((*written.of_feature(layer, feature), *deterministic), key=order_of)


def best_explanations(
    run: Run, features: Collection[tuple[int, int]], *, language: str | None = None
) -> dict[tuple[int, int], Explanation]:
    """The best explanation of each of some features, of those that have one.

    Args:
        run: the run.
        features: layer and number of each; those that the run lacks are left out.
        language: of two that are alike otherwise, the one in this language comes first.
    """
    by_layer: dict[int, set[int]] = defaultdict(set)
    for layer, feature in features:
        by_layer[layer].add(feature)
    candidates: dict[tuple[int, int], list[Explanation]] = defaultdict(list)
    with written_log(run).read() as written:
        for layer, numbers in by_layer.items():
            for explanation in term_explanations(run, layer, sorted(numbers)):
                candidates[layer, explanation.feature].append(written.complete(explanation))
            for number in numbers:
                if rows := written.of_feature(layer, number):
                    candidates[layer, number] += rows
    return {
        place: min(rows, key=lambda row: (*order_of(row)[:3], row.language != language, *order_of(row)[3:]))
        for place, rows in candidates.items()
    }


def order_of(explanation: Explanation) -> tuple[int, int, float, int, str]:
    """Sort key of the explanations of a feature, the best first.

    By votes for it minus votes against it; then those of people; then by score, where none counts as chance, 0.5; then
    those of language models; then the oldest.
    """
    votes = sum(vote.value for vote in explanation.votes)
    score = explanation.score
    return (
        -votes,
        explanation.method != "person",
        -(0.5 if score is None else score),
        METHODS[::-1].index(explanation.method),
        explanation.created,
    )
