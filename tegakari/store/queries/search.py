"""What lies near: features by decoder direction, documents by embedding, documents by their words.

Vector questions are answered by comparing with every vector, so answers are exact.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import msgspec
import numpy as np
import pyarrow.compute as pc

from tegakari.schemas.api import DocumentMatch, FeatureNeighbour
from tegakari.schemas.errors import NotFoundError, QueryError
from tegakari.store.disk.layout import VECTORS, added_vectors_directory
from tegakari.store.queries.documents import document_number
from tegakari.store.queries.parameters import check_layer, check_limit, place_of
from tegakari.store.queries.rows import document_row, feature_rows
from tegakari.store.reader import Run
from tegakari.store.vectors import DIRECTIONS, EMBEDDINGS, TEXTS


def feature_neighbours(
    run: Run, layer: int, feature: int, *, within: Run | None = None, in_layer: int | None = None, limit: int = 20
) -> list[FeatureNeighbour]:
    """Features whose decoder directions have the largest cosine with that of one feature, itself left out.

    Args:
        run: the run of the feature.
        layer: its layer.
        feature: its number.
        within: the run that is searched; default: the feature's own. Two runs have comparable directions only if their
            classifiers were fine-tuned from one model or from near relatives.
        in_layer: the layer that is searched; default: all.
        limit: rows.

    Raises:
        NotFoundError: no such layer or feature, or a run without vectors.
        QueryError: the two runs differ in d_model, or a limit out of range.
    """
    check_limit(limit)
    check_layer(run, layer)
    place_of(run, layer, feature)
    searched = within or run
    if in_layer is not None:
        check_layer(searched, in_layer)
    if searched.manifest.classifier.d_model != run.manifest.classifier.d_model:
        raise QueryError(
            f"run {searched.name!r} has d_model {searched.manifest.classifier.d_model}, "
            f"run {run.name!r} has {run.manifest.classifier.d_model}",
            field="in",
            fix="compare runs of one width",
        )
    own = _table(run, DIRECTIONS).search().where(f"layer = {layer} AND feature = {feature}").limit(1).to_arrow()
    vector = own["vector"].combine_chunks().values.to_numpy()
    query = _table(searched, DIRECTIONS).search(vector).distance_type("cosine").bypass_vector_index()
    if in_layer is not None:
        query = query.where(f"layer = {in_layer}", prefilter=True)
    found = query.select(["layer", "feature", "_distance"]).limit(limit + 1).to_arrow().to_pylist()
    same = searched.manifest.fingerprint == run.manifest.fingerprint
    hits = [
        (1.0 - row["_distance"], row["layer"], row["feature"])
        for row in found
        if not (same and (row["layer"], row["feature"]) == (layer, feature))
    ]
    hits.sort(key=lambda hit: (-hit[0], *hit[1:]))
    hits = hits[:limit]
    rows = feature_rows(searched, np.array([place_of(searched, *hit[1:]) for hit in hits], np.int64))
    return [
        FeatureNeighbour(run=searched.name, cosine=hit[0], **msgspec.structs.asdict(row))
        for hit, row in zip(hits, rows, strict=True)
    ]


def decoder_directions(run: Run, layer: int) -> np.ndarray:
    """Decoder directions of a layer's features, float32 [d_sae, d_model].

    Raises:
        NotFoundError: a run without vectors.
    """
    rows = _table(run, DIRECTIONS).search().where(f"layer = {layer}").limit(None).to_arrow().sort_by("feature")
    return rows["vector"].combine_chunks().values.to_numpy().reshape(-1, run.manifest.classifier.d_model)


def similar_documents(run: Run, document: str, *, limit: int = 20) -> list[DocumentMatch]:
    """Documents whose embeddings have the largest cosine with that of one document, itself left out.

    Raises:
        NotFoundError: no such document, or a run without vectors.
        QueryError: a limit out of range.
    """
    check_limit(limit)
    number = document_number(run, document)
    table = _table(run, EMBEDDINGS)
    own = table.search().where(f"document = {number}").limit(1).to_arrow()
    vector = own["vector"].combine_chunks().values.to_numpy()
    query = table.search(vector).distance_type("cosine").bypass_vector_index()
    found = query.where(f"document != {number}", prefilter=True).select(["document", "_distance"]).limit(limit)
    return _matches(run, [(row["document"], 1.0 - row["_distance"]) for row in found.to_arrow().to_pylist()])


def search(run: Run, text: str, *, limit: int = 20) -> list[DocumentMatch]:
    """Documents that hold all the words of a text, best first by BM25; Japanese is cut into words, as documents are.

    Behind them, with score 0 and in the order of their ids, come those that hold all its parts between spaces inside
    longer words, as 洗車 holds 車.

    Raises:
        NotFoundError: a run without vectors.
        QueryError: nothing to search for, or a limit out of range.
    """
    from lancedb import query

    check_limit(limit)
    if not text.strip():
        raise QueryError("nothing to search for", field="q", fix="give a word")
    match: Any = query.MatchQuery  # the stub of its compiled class calls the defaults required
    words = match(text, "text", operator=query.FullTextOperator.AND)
    rows = _table(run, TEXTS).search(words, query_type="fts").select(["document", "_score"]).limit(limit).to_arrow()
    found = [(row["document"], row["_score"]) for row in rows.to_pylist()]
    if len(found) < limit:
        as_words = {number for number, _ in found}
        inside = [number for number in _containing(run, text.split()) if number not in as_words]
        found += [(number, 0.0) for number in inside[: limit - len(found)]]
    return _matches(run, found)


def _containing(run: Run, parts: list[str]) -> list[int]:
    """Numbers of the documents whose text holds every part, whatever its case."""
    texts, holds = run.blocks.documents.text, np.ones(run.manifest.corpus.documents, bool)
    for part in parts:
        found = pc.call_function("match_substring", [texts], pc.MatchSubstringOptions(part, ignore_case=True))
        holds &= found.to_numpy(zero_copy_only=False)
    return np.flatnonzero(holds).tolist()


def _matches(run: Run, found: list[tuple[int, float]]) -> list[DocumentMatch]:
    found.sort(key=lambda match: (-match[1], match[0]))
    return [DocumentMatch(score=score, **msgspec.structs.asdict(document_row(run, number))) for number, score in found]


@lru_cache(maxsize=64)
def _table(run: Run, name: str) -> Any:
    """A LanceDB table of a run, opened once.

    Raises:
        NotFoundError: the run was indexed without vectors.
    """
    import lancedb

    store = run.directory.parent.parent
    for directory in (run.directory, added_vectors_directory(store, run.manifest)):
        if (directory / VECTORS / f"{name}.lance").is_dir():
            return lancedb.connect(directory / VECTORS).open_table(name)
    raise NotFoundError(
        f"run {run.name!r} has no {name}", field="run", fix=f"`tegakari runs add-vectors {run.name}` adds them"
    )
