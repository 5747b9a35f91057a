"""Similarity and full-text search: features by decoder direction, documents by embedding or by their words.

A vector is compared with every other vector, so the results are exact.
"""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pyarrow.compute as pc

from tegakari.schemas.api import DocumentMatch, FeatureNeighbour
from tegakari.schemas.errors import QueryError
from tegakari.store.queries.documents import document_number
from tegakari.store.queries.parameters import check_layer, check_limit, feature_place
from tegakari.store.queries.rows import document_row, feature_rows
from tegakari.store.reader import Run
from tegakari.store.vectors import DIRECTIONS, EMBEDDINGS, TEXTS, open_vectors, vector_matrix


def feature_neighbours(
    run: Run, layer: int, feature: int, *, within: Run | None = None, in_layer: int | None = None, limit: int = 20
) -> list[FeatureNeighbour]:
    """Other features whose decoder directions have the largest cosine with that of one feature.

    Args:
        run: the run of the feature.
        layer: its layer.
        feature: its number.
        within: the run to search; default: the feature's run. Two runs have comparable directions only if their
            classifiers were fine-tuned from the same model or from close relatives.
        in_layer: the layer to search; default: all.
        limit: maximum number of rows.

    Raises:
        NotFoundError: no such layer or feature, or a run has no vectors.
        QueryError: the two runs differ in d_model, or the limit is out of range.
    """
    check_limit(limit)
    feature_place(run, layer, feature)
    searched = within or run
    if in_layer is not None:
        check_layer(searched, in_layer)
    if searched.manifest.classifier.d_model != run.manifest.classifier.d_model:
        raise QueryError(
            f"run {searched.name!r} has d_model {searched.manifest.classifier.d_model}, "
            f"run {run.name!r} has {run.manifest.classifier.d_model}",
            field="in",
            fix="compare runs with the same d_model",
        )
    with open_vectors(run, DIRECTIONS) as table:
        rows = table.search().where(f"layer = {layer} AND feature = {feature}").limit(1).to_arrow()
    (vector,) = vector_matrix(rows)
    with open_vectors(searched, DIRECTIONS) as table:
        query = table.search(vector).distance_type("cosine").bypass_vector_index()
        if in_layer is not None:
            query = query.where(f"layer = {in_layer}", prefilter=True)
        distances = query.select(["layer", "feature", "_distance"]).limit(limit + 1).to_arrow().to_pylist()
    same_run = searched.manifest.fingerprint == run.manifest.fingerprint
    neighbours = [
        (1.0 - row["_distance"], row["layer"], row["feature"])
        for row in distances
        if not (same_run and (row["layer"], row["feature"]) == (layer, feature))
    ]
    neighbours.sort(key=lambda neighbour: (-neighbour[0], *neighbour[1:]))
    neighbours = neighbours[:limit]
    places = np.array([feature_place(searched, *neighbour[1:]) for neighbour in neighbours], np.int64)
    return [
        FeatureNeighbour(run=searched.name, cosine=neighbour[0], **msgspec.structs.asdict(row))
        for neighbour, row in zip(neighbours, feature_rows(searched, places), strict=True)
    ]


def decoder_directions(run: Run, layer: int) -> np.ndarray:
    """Decoder directions of a layer's features, float32 [d_sae, d_model].

    Raises:
        NotFoundError: the run has no vectors.
    """
    with open_vectors(run, DIRECTIONS) as table:
        rows = table.search().where(f"layer = {layer}").limit(None).to_arrow()
    return vector_matrix(rows.sort_by("feature"))


def document_embeddings(run: Run) -> np.ndarray:
    """Embeddings of all documents, float32 [documents, d_model].

    Raises:
        NotFoundError: the run has no vectors.
    """
    with open_vectors(run, EMBEDDINGS) as table:
        rows = table.to_arrow()
    return vector_matrix(rows.sort_by("document"))


def similar_documents(run: Run, document: str, *, limit: int = 20) -> list[DocumentMatch]:
    """Other documents whose embeddings have the largest cosine with that of one document.

    Raises:
        NotFoundError: no such document, or the run has no vectors.
        QueryError: the limit is out of range.
    """
    check_limit(limit)
    number = document_number(run, document)
    with open_vectors(run, EMBEDDINGS) as table:
        (vector,) = vector_matrix(table.search().where(f"document = {number}").limit(1).to_arrow())
        query = table.search(vector).distance_type("cosine").bypass_vector_index()
        query = query.where(f"document != {number}", prefilter=True).select(["document", "_distance"]).limit(limit)
        rows = query.to_arrow().to_pylist()
    return _matches(run, [(row["document"], 1.0 - row["_distance"]) for row in rows])


def search(run: Run, text: str, *, limit: int = 20) -> list[DocumentMatch]:
    """Documents that contain all words of a text, best first by BM25; Japanese is split into words.

    After them, with score 0 and in the order of their ids, come documents that contain every space-separated part of
    the text within longer words, as 洗車 contains 車.

    Raises:
        NotFoundError: the run has no vectors.
        QueryError: the text is empty, or the limit is out of range.
    """
    from lancedb import query

    check_limit(limit)
    if not text.strip():
        raise QueryError("the text is empty", field="q", fix="give a word")
    match: Any = query.MatchQuery  # the stub of this compiled class declares its defaults as required
    words = match(text, "text", operator=query.FullTextOperator.AND)
    with open_vectors(run, TEXTS) as table:
        rows = table.search(words, query_type="fts").select(["document", "_score"]).limit(limit).to_arrow()
    scores = {row["document"]: row["_score"] for row in rows.to_pylist()}
    if len(scores) < limit:
        within_words = [number for number in _documents_with(run, text.split()) if number not in scores]
        scores |= dict.fromkeys(within_words[: limit - len(scores)], 0.0)
    return _matches(run, list(scores.items()))


def _documents_with(run: Run, parts: list[str]) -> list[int]:
    """Numbers of the documents whose text contains every part, ignoring case."""
    texts, contains_all = run.blocks.documents.text, np.ones(run.manifest.corpus.documents, bool)
    for part in parts:
        contains = pc.call_function("match_substring", [texts], pc.MatchSubstringOptions(part, ignore_case=True))
        contains_all &= contains.to_numpy(zero_copy_only=False)
    return np.flatnonzero(contains_all).tolist()


def _matches(run: Run, scores: list[tuple[int, float]]) -> list[DocumentMatch]:
    """Rows of documents, by score, then number."""
    scores = sorted(scores, key=lambda match: (-match[1], match[0]))
    numbers = np.array([number for number, _ in scores], np.int64).astype(np.int32)
    run.blocks.check_numbers(EMBEDDINGS, numbers, run.manifest.corpus.documents)
    return [DocumentMatch(score=score, **msgspec.structs.asdict(document_row(run, number))) for number, score in scores]
