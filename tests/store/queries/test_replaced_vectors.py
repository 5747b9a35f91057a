"""Similarity and search of a run that is deleted or replaced under its name: of one run, or an error."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from tegakari.schemas.errors import NotFoundError
from tegakari.store import Run, Store, queries
from tegakari.store.disk.layout import run_directory
from tegakari.store.disk.publish import delete_run
from tegakari.store.vectors import write_vectors
from tests.support.factories import D_MODEL, make_run


def publish(store: Path, seed: int) -> None:
    """Publish the run `one` with drawn vectors; it replaces the one of that name."""
    if (store / "runs" / "one").exists():
        delete_run(store, "one")
    manifest = make_run(store, "one")  # the same rows for every seed: only the vectors differ
    draw = np.random.default_rng(seed)
    directions = {
        layer: draw.standard_normal((width, D_MODEL))
        for layer, width in zip(manifest.saes.layers, manifest.saes.widths, strict=True)
    }
    documents = manifest.corpus.documents
    texts = [f"text{seed} number{number}" for number in range(documents)]
    write_vectors(run_directory(store, "one"), directions, [draw.standard_normal((documents, D_MODEL))], texts)


QUERIES: dict[str, Callable[[Run], object]] = {
    "neighbours": lambda run: queries.feature_neighbours(run, 0, 0, limit=3),
    "directions": lambda run: queries.decoder_directions(run, 0).tolist(),
    "embeddings": lambda run: queries.document_embeddings(run).tolist(),
    "similar": lambda run: queries.similar_documents(run, run.blocks.documents.id[0].as_py(), limit=3),
    "search": lambda run: queries.search(run, "text1"),
}


def test_a_replaced_run_does_not_answer_with_the_vectors_of_the_new_one(tmp_path: Path):
    publish(tmp_path, 1)
    store, used = Store(tmp_path), Store(tmp_path).run("one")
    unused = store.run("one")
    assert unused.blocks.documents
    before = {name: query(used) for name, query in QUERIES.items()}
    publish(tmp_path, 2)
    for name, query in QUERIES.items():
        for run in (used, unused):
            with pytest.raises(NotFoundError, match="deleted or replaced meanwhile"):
                query(run)
        assert query(store.run("one")) != before[name], name


@pytest.mark.parametrize(("query", "replaced"), [("neighbours", True), ("similar", False)])
def test_a_run_that_goes_in_the_midst_of_a_query_gives_an_error(
    tmp_path: Path, query: str, replaced: bool, monkeypatch: pytest.MonkeyPatch
):
    publish(tmp_path, 1)
    run = Store(tmp_path).run("one")
    assert run.blocks.documents
    search = import_module("tegakari.store.queries.search")  # the package has a function of this name
    original = search.vector_matrix

    def vector_before_the_end(rows: pa.Table) -> np.ndarray:
        vector = original(rows)
        if replaced:
            publish(tmp_path, 2)
        else:
            delete_run(tmp_path, "one")
        return vector

    monkeypatch.setattr(search, "vector_matrix", vector_before_the_end)
    with pytest.raises(NotFoundError, match="repeat the request"):
        QUERIES[query](run)
