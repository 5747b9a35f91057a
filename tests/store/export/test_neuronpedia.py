"""Neuronpedia's layout has the values of the run's tables."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from tegakari.schemas.errors import StoreError
from tegakari.store import Store
from tegakari.store.export.neuronpedia import SOURCE_SET, export_neuronpedia
from tests.support.factories import make_run


def rows(path: Path) -> list[dict]:
    raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    return [json.loads(line) for line in raw.splitlines()]


def test_layout_and_content(tmp_path: Path):
    make_run(tmp_path / "store", "one")
    run = Store(tmp_path / "store").run("one")
    counts = export_neuronpedia(run, tmp_path / "out", creator="me")
    sources = sorted((tmp_path / "out" / "one").iterdir())
    assert [source.name for source in sources] == [f"{layer}-{SOURCE_SET}" for layer in (0, 1, 2)]
    source = sources[1]
    assert {path.relative_to(source).as_posix() for path in source.rglob("*") if path.is_file()} == {
        "release.jsonl",
        "model.jsonl",
        "sourceset.jsonl",
        "source.jsonl",
        "features/batch-0.jsonl.gz",
        "activations/batch-0.jsonl.gz",
    }
    (metadata,) = rows(source / "source.jsonl")
    assert (metadata["id"], metadata["modelId"], metadata["setName"]) == (source.name, "one", SOURCE_SET)
    assert metadata["num_prompts"] == run.manifest.corpus.documents
    features = rows(source / "features" / "batch-0.jsonl.gz")
    expected = run.rows("SELECT * FROM features WHERE layer = 1 ORDER BY feature")
    assert [(row["index"], row["frac_nonzero"], row["maxActApprox"]) for row in features] == [
        (str(row["feature"]), pytest.approx(row["density"]), pytest.approx(row["max_activation"])) for row in expected
    ]
    assert {"modelId", "maxActApprox", "frac_nonzero", "pos_str", "hookName", "hasVector"} <= features[0].keys()
    assert counts["features"] == 3 * len(features)
    excerpts = [row for row in rows(source / "activations" / "batch-0.jsonl.gz") if row["index"] == "4"]
    positions = run.rows(
        "SELECT id, label, activation, token, document FROM top_tokens JOIN documents USING (document) "
        "JOIN labels USING (label_id) WHERE layer = 1 AND feature = 4 ORDER BY rank"
    )
    first_of = list({row["document"]: row for row in reversed(positions)}.values())
    by_strength = sorted(first_of, key=positions.index)
    assert len(excerpts) == len(by_strength)
    for row, position in zip(excerpts, by_strength, strict=True):
        assert (row["dataIndex"], row["dataSource"]) == (position["id"], position["label"])
        assert row["tokens"][row["maxValueTokenIndex"]] == position["token"]
        assert row["values"][row["maxValueTokenIndex"]] == row["maxValue"] == pytest.approx(position["activation"])
        assert len(row["tokens"]) == len(row["values"])
    with pytest.raises(StoreError, match="exists"):
        export_neuronpedia(run, tmp_path / "out", creator="me")
