"""The view `explanations`: deterministic explanations, which are columns already, and those of the logs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa

from tegakari.schemas.explanations import Explanation, explanation_id
from tegakari.schemas.tables import Column, Table
from tegakari.store.column_types import arrow_schema
from tegakari.store.disk.layout import run_directory
from tegakari.store.explanations import (
    AUTHOR,
    LANGUAGES,
    explanations_of_run,
    layer_texts,
    term_explanations,
    written_log,
)
from tegakari.store.reader import Run

EXPLANATIONS = Table(
    "explanations",
    "Explanations of features: deterministic ones, and those of people and language models.",
    ("run", "layer", "feature", "id"),
    (
        Column("run", "string", "run of the feature"),
        Column("id", "string", "hash of feature, method, author and text"),
        Column("layer", "int32", "layer of the feature"),
        Column("feature", "int32", "feature of the layer's SAE"),
        Column("text", "string", "one sentence"),
        Column("language", "string", "of the text, as ja or en"),
        Column("method", "string", "terms, model or person"),
        Column("author", "string", "tegakari, the language model, or the person"),
        Column("prompt_version", "string", "of the prompt that a model answered"),
        Column("created", "string", "ISO 8601, UTC"),
        Column("score", "float64", "balanced accuracy of detection, mean over its scores; null: none"),
        Column("votes_for", "int32", "authors who say that it is right"),
        Column("votes_against", "int32", "authors who say that it is wrong"),
        Column("terms", "string[]", "of the method terms: the words of the sentence"),
    ),
)

_SCHEMA = arrow_schema(EXPLANATIONS)


def explanation_batches(store: Path, runs: Sequence[str]) -> Iterator[pa.RecordBatch]:
    """Rows of EXPLANATIONS of runs; read anew for each scan, because a log may have grown.

    Args:
        store: the store's directory.
        runs: names of runs; one that was deleted meanwhile has no rows.
    """
    for name in runs:
        try:
            run = Run(run_directory(store, name))
        except FileNotFoundError:
            continue
        with written_log(run).read() as written:
            rows = [_row(name, explanation) for explanation in written]
            judged = written.judged_features()
            complete = {
                explanation.id: written.complete(explanation)
                for layer, features in judged.items()
                for explanation in term_explanations(run, layer, sorted(features))
            }
        yield pa.RecordBatch.from_pylist(rows, _SCHEMA)
        if explanations_of_run(run) is not None:
            for layer in run.manifest.saes.layers:
                for language in LANGUAGES:
                    yield _of_layer(run, layer, language, complete)


def _row(run: str, explanation: Explanation) -> dict[str, object]:
    votes = [vote.value for vote in explanation.votes]
    derived = {
        "run": run,
        "score": explanation.score,
        "votes_for": votes.count(1),
        "votes_against": votes.count(-1),
        "terms": [term.word for term in explanation.terms],
    }
    names = [column.name for column in EXPLANATIONS.columns]
    return {name: derived[name] if name in derived else getattr(explanation, name) for name in names}


def _of_layer(run: Run, layer: int, language: str, complete: dict[str, Explanation]) -> pa.RecordBatch:
    """Deterministic explanations of a layer in a language.

    Args:
        run: with deterministic explanations.
        layer: of the run.
        language: of LANGUAGES.
        complete: those that have scores or votes, by id.
    """
    rows = layer_texts(run, layer)
    texts = rows[language].to_pylist()
    ids = [explanation_id(layer, feature, "terms", AUTHOR, text) for feature, text in enumerate(texts)]
    judged = [complete.get(identifier) for identifier in ids]
    votes = [[] if row is None else [vote.value for vote in row.votes] for row in judged]
    constants = {
        "run": run.name,
        "layer": layer,
        "language": language,
        "method": "terms",
        "author": AUTHOR,
        "prompt_version": None,
        "created": run.manifest.created,
    }
    columns = {
        **{name: pa.repeat(pa.scalar(value, _SCHEMA.field(name).type), len(ids)) for name, value in constants.items()},
        "id": ids,
        "feature": rows["feature"].combine_chunks(),
        "text": rows[language].combine_chunks(),
        "score": [None if row is None else row.score for row in judged],
        "votes_for": [values.count(1) for values in votes],
        "votes_against": [values.count(-1) for values in votes],
        "terms": rows["terms"].combine_chunks(),
    }
    return pa.record_batch(
        [
            pa.array(columns[name], _SCHEMA.field(name).type) if isinstance(columns[name], list) else columns[name]
            for name in _SCHEMA.names
        ],
        _SCHEMA,
    )
