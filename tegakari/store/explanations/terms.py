"""Deterministic explanations of a run: the rows of their files as explanations in two languages."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from tegakari.schemas.explanations import Evidence, Explanation, LabelEvidence, Term, explanation_id
from tegakari.store.explanations.term_files import explanations_of_run, read_term_rows
from tegakari.store.explanations.term_texts import features_with
from tegakari.store.explanations.written import Filters, Key, Written
from tegakari.store.folding import folded
from tegakari.store.queries.parameters import feature_place
from tegakari.store.reader import Run

AUTHOR = "tegakari"
"""Author of the explanations of method terms."""

LANGUAGES = ("en", "ja")
"""Of the sentences, in the order of lists."""

_ROWS = 512
"""Features that a list reads at a time."""


def term_explanations(run: Run, layer: int, features: Sequence[int]) -> list[Explanation]:
    """Deterministic explanations of features of a layer, by feature, then language; none if the run has none."""
    if explanations_of_run(run) is None:
        return []
    return [explanation for row in _rows(run, layer, features) for explanation in row]


def terms_explanation(run: Run, layer: int, feature: int, *, language: str = "en") -> Explanation:
    """The deterministic explanation of a feature.

    Raises:
        NotFoundError: no such layer or feature, or the run has no deterministic explanations.
        StoreError: a file is damaged.
    """
    feature_place(run, layer, feature)
    (row,) = _rows(run, layer, [feature])
    return row[LANGUAGES.index(language)]


def layer_explanations(run: Run, layer: int, *, language: str = "en") -> Iterator[Explanation]:
    """Deterministic explanations of all features of a layer.

    Raises:
        NotFoundError: the run has no deterministic explanations, or was deleted meanwhile.
        StoreError: a file is damaged.
    """
    width = run.manifest.saes.widths[run.manifest.saes.layers.index(layer)]
    at = LANGUAGES.index(language)
    for first in range(0, width, _ROWS):
        for row in _rows(run, layer, range(first, min(first + _ROWS, width))):
            yield row[at]


def terms_after(
    run: Run, written: Written, last: Key | None, filters: Filters, limit: int
) -> list[tuple[Key, Explanation]]:
    """The first deterministic explanations that pass filters, as `Written.after`.

    Their numbers, in the keys, are -2 and -1: they stand before those of the log.
    """
    if explanations_of_run(run) is None:
        return []
    rows: list[tuple[Key, Explanation]] = []
    for layer, width in zip(run.manifest.saes.layers, run.manifest.saes.widths, strict=True):
        if filters.layer not in (None, layer) or (last is not None and layer < last[0]):
            continue
        start = last[1] if last is not None and layer == last[0] else 0
        features = range(start, width)
        if filters.feature is not None:
            features = range(filters.feature, filters.feature + 1) if filters.feature in features else range(0)
        if filters.words and len(features) > 1:
            features = [feature for feature in features_with(run, layer, filters.words).tolist() if feature in features]
        if filters.min_score is not None:  # without scores in the log there are none
            features = sorted({feature for at, feature in written.scored_features() if at == layer} & set(features))
        for first in range(0, len(features), _ROWS):
            for row in _rows(run, layer, features[first : first + _ROWS]):
                for index, explanation in enumerate(row):
                    key = layer, explanation.feature, index - len(LANGUAGES)
                    complete = written.complete(explanation)
                    if (last is None or key > last) and _passes(complete, filters):
                        rows.append((key, complete))
            if len(rows) >= limit:
                return rows[:limit]
    return rows


def _passes(explanation: Explanation, filters: Filters) -> bool:
    if filters.language not in (None, explanation.language):
        return False
    if filters.min_score is not None and (explanation.score is None or explanation.score < filters.min_score):
        return False
    text = folded(explanation.text) if filters.words else ""
    return all(word in text for word in filters.words)


def _rows(run: Run, layer: int, features: Sequence[int]) -> Iterator[tuple[Explanation, ...]]:
    """Explanations of each feature, one per language."""
    for row in read_term_rows(run, layer, features).to_pylist():
        terms, evidence = _terms(row), _evidence(run, row)
        yield tuple(
            Explanation(
                id=explanation_id(layer, row["feature"], "terms", AUTHOR, row[language]),
                layer=layer,
                feature=row["feature"],
                text=row[language],
                language=language,
                method="terms",
                author=AUTHOR,
                created=run.manifest.created,
                terms=terms,
                evidence=evidence,
            )
            for language in LANGUAGES
        )


def _terms(row: dict[str, Any]) -> list[Term]:
    columns = ("terms", "term_z", "term_contexts", "term_on", "term_before", "term_corpus_share")
    return [
        Term(word=word, z=z, contexts=contexts, on=on, before=before, corpus_share=corpus_share)
        for word, z, contexts, on, before, corpus_share in zip(*(row[name] for name in columns), strict=True)
    ]


def _evidence(run: Run, row: dict[str, Any]) -> Evidence:
    labels = zip(row["label_ids"], row["label_d"], row["label_active"], strict=True)
    return Evidence(
        contexts=row["contexts"],
        covered=row["covered"],
        traits=row["traits"],
        token=row["token"],
        token_share=row["token_share"],
        place=row["place"],
        place_share=row["place_share"],
        script=row["script"],
        script_share=row["script_share"],
        labels=[
            LabelEvidence(label=run.labels[label_id], cohens_d=d, active_share=share) for label_id, d, share in labels
        ],
    )
