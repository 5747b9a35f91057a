"""Deterministic explanations of all features of a run, written layer by layer."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import structlog

from tegakari.schemas.explanations import MAX_TERM, Evidence, LabelEvidence, Term, Trait
from tegakari.schemas.progress import NoProgress, Progress
from tegakari.store.contexts import LayerContexts, layer_contexts
from tegakari.store.explanations.term_files import SCHEMA, write_term_rows
from tegakari.store.reader import Run
from tegakari.terms import words
from tegakari.terms.layer_terms import LayerTerms, layer_terms
from tegakari.terms.places import PLACES
from tegakari.terms.scripts import SCRIPTS
from tegakari.terms.sentences import sentences
from tegakari.terms.windows import Corpus, open_corpus
from tegakari.terms.words import written

log = structlog.get_logger()

LABELS = 3
"""Labels of a feature."""

ALWAYS = 0.9
"""Density from which a feature is active nearly always."""
SINGLE_TOKEN = 0.95
"""Share of the contexts with the same strongest token from which a feature is one of a single token."""
MIN_CONTEXTS = 3
"""Contexts below which no token, place or script is called common to them."""
LABEL_WIDE = 0.9
"""Share of a label's documents from which a feature is active in nearly all of them."""


class LayerLabels(NamedTuple):
    """Labels of the features of a layer, by the run's pooling; the largest d first."""

    label_id: np.ndarray
    """int64 [d_sae, LABELS]; -1: no more labels with d above the run's threshold"""
    d: np.ndarray
    """float32 [d_sae, LABELS]"""
    active_share: np.ndarray
    """float32 [d_sae, LABELS]: documents of the label in which the feature is active anywhere"""
    density: np.ndarray
    """float64 [d_sae]"""


def explain_run(run: Run, directory: Path, progress: Progress = NoProgress(), *, contexts: Path | None = None) -> None:
    """Explain every feature of a run; memory does not grow with the number of layers.

    Where LanceDB is missing, which cuts the words, nothing is written and a warning is logged.

    Args:
        run: published, or staged with its run.json; it is read only.
        directory: of the staged run, or of its staged additions, for the files.
        progress: receives the layers.
        contexts: directory that has the run's contexts; default: where the run has them.

    Raises:
        NotFoundError: the run has no contexts.
        StoreError: the run is damaged.
    """
    if not words.available():
        log.warning("no explanations", reason="lancedb, which cuts the words, is not installed or too old")
        return
    corpus = open_corpus(run.blocks.documents, run.manifest)
    progress.stage("explaining features", len(run.manifest.saes.layers))
    for layer in run.manifest.saes.layers:
        write_term_rows(directory, layer, _layer_rows(run, corpus, layer, contexts))
        progress.advance(1)


def _layer_rows(run: Run, corpus: Corpus, layer: int, directory: Path | None) -> Iterator[pa.RecordBatch]:
    labels = layer_labels(run, layer)
    for features, contexts in layer_contexts(run, layer, directory=directory):
        yield term_rows(run.labels, corpus, labels, features, contexts)


def layer_labels(run: Run, layer: int) -> LayerLabels:
    """The labels of the largest d of each feature of a layer."""
    blocks, pooling = run.blocks, run.manifest.pooling
    places = blocks.places.slice_of(layer)
    d = np.asarray(blocks.statistics["d", pooling][:, places])
    above = np.where(np.isnan(d) | (d < run.manifest.variety_threshold), -np.inf, d)
    order = np.argsort(-above, axis=0, kind="stable")[:LABELS].T
    rows = np.arange(len(order))[:, None]
    documents = np.bincount(blocks.documents.label_id, minlength=len(d))
    active = blocks.documents_active["max"][:, places] / np.maximum(documents, 1)[:, None]
    largest = above.T[rows, order]
    return LayerLabels(
        label_id=np.where(np.isfinite(largest), order, -1),
        d=largest,
        active_share=active.T[rows, order].astype(np.float32),
        density=blocks.features["density"][places],
    )


def term_rows(
    label_names: tuple[str, ...], corpus: Corpus, labels: LayerLabels, features: range, contexts: LayerContexts
) -> pa.RecordBatch:
    """Rows of a range of features, as the table of explanations has them.

    Args:
        label_names: of the run.
        corpus: documents of the run.
        labels: of all features of the layer.
        features: numbers of the features.
        contexts: of these features.
    """
    found = layer_terms(corpus, features, contexts)
    columns: dict[str, list[object]] = {name: [] for name in SCHEMA.names}
    for index, feature in enumerate(features):
        terms = _terms(corpus, found, index)
        evidence = _evidence(label_names, corpus, found, labels, index, feature)
        text = sentences(terms, evidence)
        values: dict[str, object] = {
            "feature": feature,
            "en": text.en,
            "ja": text.ja,
            "contexts": evidence.contexts,
            "covered": evidence.covered,
            "traits": evidence.traits,
            "token": evidence.token,
            "token_share": evidence.token_share,
            "place": evidence.place,
            "place_share": evidence.place_share,
            "script": evidence.script,
            "script_share": evidence.script_share,
            "label_ids": [label_id for label_id in labels.label_id[feature].tolist() if label_id >= 0],
            "label_d": [label.cohens_d for label in evidence.labels],
            "label_active": [label.active_share for label in evidence.labels],
            "terms": [term.word for term in terms],
            "term_z": [term.z for term in terms],
            "term_contexts": [term.contexts for term in terms],
            "term_on": [term.on for term in terms],
            "term_before": [term.before for term in terms],
            "term_corpus_share": [term.corpus_share for term in terms],
        }
        for name, value in values.items():
            columns[name].append(value)
    return pa.record_batch([pa.array(columns[field.name], field.type) for field in SCHEMA], schema=SCHEMA)


def _terms(corpus: Corpus, found: LayerTerms, index: int) -> list[Term]:
    surfaces = corpus.words.surfaces
    terms = []
    for row, numbers in enumerate(found.words[index].tolist()):
        if numbers[0] < 0:
            break
        word = written([surfaces[number] for number in numbers if number >= 0])[:MAX_TERM]
        if all(term.word != word for term in terms):
            terms.append(
                Term(
                    word=word,
                    z=float(found.z[index, row]),
                    contexts=int(found.term_documents[index, row]),
                    on=int(found.on[index, row]),
                    before=int(found.before[index, row]),
                    corpus_share=float(corpus.rate[found.anchor[index, row]]),
                )
            )
    return terms


def _evidence(
    label_names: tuple[str, ...], corpus: Corpus, found: LayerTerms, labels: LayerLabels, index: int, feature: int
) -> Evidence:
    contexts = int(found.documents[index])
    enough = contexts >= MIN_CONTEXTS
    token = corpus.token_forms[found.token[index]] if enough else ""
    token_share = float(found.token_share[index]) if token else 0.0
    place = int(found.place[index]) if enough else -1
    script = int(found.script[index]) if enough else -1
    best = [
        LabelEvidence(label=label_names[label_id], cohens_d=d, active_share=share)
        for label_id, d, share in zip(
            labels.label_id[feature].tolist(),
            labels.d[feature].tolist(),
            labels.active_share[feature].tolist(),
            strict=True,
        )
        if label_id >= 0
    ]
    density = float(labels.density[feature])
    named: dict[Trait, bool] = {
        "never": density == 0,
        "always": density >= ALWAYS,
        "single-token": enough and bool(token) and token_share >= SINGLE_TOKEN,
        "label-wide": bool(best) and best[0].active_share >= LABEL_WIDE,
        "positional": place >= 0,
    }
    return Evidence(
        contexts=contexts,
        covered=int(found.covered[index]),
        traits=[trait for trait, holds in named.items() if holds],
        token=token or None,
        token_share=token_share,
        place=PLACES[place] if place >= 0 else None,
        place_share=float(found.place_share[index]) if place >= 0 else 0.0,
        script=SCRIPTS[script] if script >= 0 else None,
        script_share=float(found.script_share[index]) if script >= 0 else 0.0,
        labels=best,
    )
