"""A run indexed without LanceDB gets the vectors it would have had."""

from __future__ import annotations

from pathlib import Path

import lancedb
import numpy as np
import pytest

from tegakari.analyses.add_vectors import add_vectors
from tegakari.indexer.pipeline import index
from tegakari.schemas.errors import NotFoundError, RunExistsError
from tegakari.store import Store, queries
from tegakari.store.disk.layout import VECTORS, added_vectors_directory
from tegakari.store.disk.publish import damaged_files
from tests.support.small_case import SmallCase, with_index


def test_vectors_added_later_are_the_same(small_case: SmallCase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    index(with_index(small_case, tmp_path / "with"))
    monkeypatch.setattr("tegakari.store.vectors.available", lambda: False)
    index(with_index(small_case, tmp_path / "without"))
    run = Store(tmp_path / "without").run("small")
    with pytest.raises(NotFoundError, match="has no texts"):
        queries.search(run, "車")
    add_vectors(tmp_path / "without", run, device="cpu")
    added = lancedb.connect(added_vectors_directory(tmp_path / "without", run.manifest) / VECTORS)
    own = lancedb.connect(tmp_path / "with" / "runs" / "small" / VECTORS)
    for name, order in (("directions", [("layer", "ascending"), ("feature", "ascending")]), ("texts", "document")):
        left, right = (base.open_table(name).to_arrow().sort_by(order) for base in (added, own))
        assert left.to_pylist() == right.to_pylist()
    left, right = (
        np.stack(base.open_table("embeddings").to_arrow().sort_by("document")["vector"].to_pylist())
        for base in (added, own)
    )
    np.testing.assert_allclose(left, right, rtol=1e-4, atol=1e-5)
    assert queries.search(run, run.rows("SELECT text FROM documents")[0]["text"])
    assert damaged_files(tmp_path / "without", "small") == []
    with pytest.raises(RunExistsError, match="has vectors"):
        add_vectors(tmp_path / "without", run)
