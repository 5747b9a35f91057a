"""Rows of the table of explanations: what a range of features has in common, as columns, and its sentences."""

from __future__ import annotations

from typing import Any, NamedTuple, get_args

import numpy as np
import pyarrow as pa

from tegakari.schemas.explanations import MAX_TERM, Evidence, LabelEvidence, Term, Trait
from tegakari.store.contexts import LayerContexts
from tegakari.store.explanations.term_files import SCHEMA
from tegakari.terms.layer_terms import LayerTerms, layer_terms
from tegakari.terms.places import PLACES
from tegakari.terms.scripts import SCRIPTS
from tegakari.terms.sentences import sentences
from tegakari.terms.windows import Corpus
from tegakari.terms.words import written

ALWAYS = 0.9
"""Density from which a feature is active nearly always."""
SINGLE_TOKEN = 0.95
"""Share of the contexts with the same strongest token from which a feature is one of a single token."""
MIN_CONTEXTS = 3
"""Contexts below which no token, place or script is called common to them."""
LABEL_WIDE = 0.9
"""Share of a label's documents from which a feature is active in nearly all of them."""

_TRAITS: tuple[Trait, ...] = get_args(Trait)


class LayerLabels(NamedTuple):
    """Labels of F features, by the run's pooling; the largest d first."""

    label_id: np.ndarray
    """int64 [F, L]; -1: no more labels with d above the run's threshold"""
    d: np.ndarray
    """float32 [F, L]"""
    active_share: np.ndarray
    """float32 [F, L]: documents of the label in which the feature is active anywhere"""
    density: np.ndarray
    """float64 [F]"""

    def of(self, features: range) -> LayerLabels:
        """Those of a range of the features."""
        return LayerLabels(*(column[features.start : features.stop] for column in self))


def term_rows(
    label_names: tuple[str, ...], corpus: Corpus, labels: LayerLabels, features: range, contexts: LayerContexts
) -> pa.RecordBatch:
    """Rows of a range of features, as the table of explanations has them.

    Args:
        label_names: of the run.
        corpus: documents of the run.
        labels: of these features.
        features: numbers of the features.
        contexts: of these features.
    """
    found = layer_terms(corpus, features, contexts)
    terms, of_terms = _terms(corpus, found)
    evidence = _evidence(label_names, corpus, found, labels)
    texts = [sentences(*pair) for pair in zip(terms, evidence, strict=True)]
    of_labels = labels.label_id >= 0
    columns: dict[str, object] = {
        "feature": np.arange(features.start, features.stop),
        "en": [text.en for text in texts],
        "ja": [text.ja for text in texts],
        "contexts": found.documents,
        "covered": found.covered,
        "traits": [row.traits for row in evidence],
        "token": [row.token for row in evidence],
        "token_share": [row.token_share for row in evidence],
        "place": [row.place for row in evidence],
        "place_share": [row.place_share for row in evidence],
        "script": [row.script for row in evidence],
        "script_share": [row.script_share for row in evidence],
        "label_ids": _lists(labels.label_id, of_labels),
        "label_d": _lists(labels.d, of_labels),
        "label_active": _lists(labels.active_share, of_labels),
        "terms": [[term.word for term in row] for row in terms],
        "term_z": _lists(found.z, of_terms),
        "term_contexts": _lists(found.term_documents, of_terms),
        "term_on": _lists(found.on, of_terms),
        "term_before": _lists(found.before, of_terms),
        "term_corpus_share": _lists(corpus.rate[found.anchor], of_terms),
    }
    return pa.record_batch([_array(columns[field.name], field.type) for field in SCHEMA], schema=SCHEMA)


def _lists(values: np.ndarray, present: np.ndarray) -> pa.ListArray:
    """A list per row of the values that are present, both [F, n]."""
    offsets = np.concatenate([[0], np.cumsum(present.sum(1))])
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), pa.array(values[present]))


def _array(values: Any, column: pa.DataType) -> pa.Array:
    return values.cast(column) if isinstance(values, pa.Array) else pa.array(values, column)


def _terms(corpus: Corpus, found: LayerTerms) -> tuple[list[list[Term]], np.ndarray]:
    """Terms of each feature, and which of those that were found they are, bool [F, TERMS]: no two are written alike."""
    surfaces = corpus.words.surfaces
    present = found.anchor >= 0
    columns = (found.z, found.term_documents, found.on, found.before, corpus.rate[found.anchor])
    terms: list[list[Term]] = [[] for _ in found.documents]
    places = zip(*(indices.tolist() for indices in np.nonzero(present)), strict=True)
    values = zip(*(column[present].tolist() for column in columns), strict=True)
    for (index, row), numbers, (z, contexts, on, before, share) in zip(
        places, found.words[present].tolist(), values, strict=True
    ):
        word = written([surfaces[number] for number in numbers if number >= 0])[:MAX_TERM]
        if any(term.word == word for term in terms[index]):
            present[index, row] = False
            continue
        terms[index].append(Term(word=word, z=z, contexts=contexts, on=on, before=before, corpus_share=share))
    return terms, present


def _evidence(label_names: tuple[str, ...], corpus: Corpus, found: LayerTerms, labels: LayerLabels) -> list[Evidence]:
    """Evidence of each feature."""
    enough = found.documents >= MIN_CONTEXTS
    token = [corpus.token_forms[form] if form >= 0 else "" for form in np.where(enough, found.token, -1).tolist()]
    best = [
        [
            LabelEvidence(label=label_names[label_id], cohens_d=d, active_share=share)
            for label_id, d, share in zip(*columns, strict=True)
            if label_id >= 0
        ]
        for columns in zip(labels.label_id.tolist(), labels.d.tolist(), labels.active_share.tolist(), strict=True)
    ]
    place, script = np.where(enough, found.place, -1), np.where(enough, found.script, -1)
    has_token = np.array([bool(form) for form in token], bool)
    token_share = np.where(has_token, found.token_share, 0.0)
    traits = {
        "never": labels.density == 0,
        "always": labels.density >= ALWAYS,
        "single-token": has_token & (token_share >= SINGLE_TOKEN),
        "label-wide": np.array([bool(row) and row[0].active_share >= LABEL_WIDE for row in best], bool),
        "positional": place >= 0,
    }
    columns = {
        "contexts": found.documents,
        "covered": found.covered,
        "token_share": token_share,
        "place_share": np.where(place >= 0, found.place_share, 0.0),
        "script_share": np.where(script >= 0, found.script_share, 0.0),
    }
    return [
        Evidence(
            traits=[trait for trait, holds in zip(_TRAITS, of_feature, strict=True) if holds],
            token=form or None,
            place=PLACES[place_id] if place_id >= 0 else None,
            script=SCRIPTS[script_id] if script_id >= 0 else None,
            labels=of_labels,
            **dict(zip(columns, numbers, strict=True)),
        )
        for form, place_id, script_id, of_labels, of_feature, numbers in zip(
            token,
            place.tolist(),
            script.tolist(),
            best,
            np.column_stack([traits[trait] for trait in _TRAITS]).tolist(),
            zip(*(column.tolist() for column in columns.values()), strict=True),
            strict=True,
        )
    ]
