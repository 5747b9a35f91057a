"""Neuronpedia's layout has the values of the run's tables."""

from __future__ import annotations

import gzip
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from tegakari.indexer.pipeline import index
from tegakari.schemas.errors import StoreError
from tegakari.store import Store
from tegakari.store.disk.layout import EFFECTS
from tegakari.store.export.neuronpedia import SOURCE_SET, export_neuronpedia
from tegakari.store.queries import feature_contexts, feature_histogram
from tegakari.store.vectors import publish_added
from tests.support.factories import make_run, random_case, random_effects
from tests.support.service import DIRECTIONS, EMBEDDINGS
from tests.support.small_case import SmallCase, with_index


def rows(path: Path) -> list[dict]:
    raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    return [json.loads(line) for line in raw.splitlines()]


def test_layout_and_content(tmp_path: Path):
    manifest = make_run(tmp_path / "store", "one")
    texts = [document.text for document in random_case().documents]
    publish_added(tmp_path / "store", manifest, DIRECTIONS, [EMBEDDINGS], texts)
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
        "explanations/batch-0.jsonl.gz",
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
    assert "effects (logits" in metadata["notes"]
    effects = random_effects(random_case(), 1)
    for feature in (0, 4, 17):
        by_effect = np.argsort(effects[:, feature]).tolist()
        row, histogram = features[feature], feature_histogram(run, 1, feature)
        assert row["vector"] == pytest.approx(DIRECTIONS[1][feature].tolist())
        assert row["hasVector"]
        assert row["pos_values"] == pytest.approx(effects[by_effect[::-1], feature].tolist(), rel=2**-11)
        assert row["neg_str"] == [run.labels[label] for label in by_effect]
        assert row["freq_hist_data_bar_heights"] == histogram.counts
        width = histogram.edges[1] - histogram.edges[0]
        assert row["freq_hist_data_bar_values"] == pytest.approx([edge + width / 2 for edge in histogram.edges[:-1]])
        assert sum(row["logits_hist_data_bar_heights"]) == len(run.labels)
    assert "activation at every token" in metadata["notes"]
    all_excerpts = [row for row in rows(source / "activations" / "batch-0.jsonl.gz") if row["index"] == "4"]
    positions = run.rows(
        "SELECT id, label, activation, token, document FROM top_tokens JOIN documents USING (document) "
        "JOIN labels USING (label_id) WHERE layer = 1 AND feature = 4 ORDER BY rank"
    )
    first_of = list({row["document"]: row for row in reversed(positions)}.values())
    by_strength = sorted(first_of, key=positions.index)
    excerpts, sample = all_excerpts[: len(by_strength)], all_excerpts[len(by_strength) :]
    for row, position in zip(excerpts, by_strength, strict=True):
        assert (row["dataIndex"], row["dataSource"]) == (position["id"], position["label"])
        at = row["qualifyingTokenIndex"]
        assert row["tokens"][at] == position["token"]
        assert row["values"][at] == pytest.approx(position["activation"], rel=2**-11)
    contexts = feature_contexts(run, 1, 4, limit=1000).items
    expected_sample = [context for context in reversed(contexts) if context.quantile > 0]
    assert [(row["tokens"], row["values"]) for row in sample] == [(c.tokens, c.activations) for c in expected_sample]
    for row in all_excerpts:
        assert len(row["tokens"]) == len(row["values"])
        assert row["maxValue"] == max(row["values"]) == row["values"][row["maxValueTokenIndex"]]
    with pytest.raises(StoreError, match="exists"):
        export_neuronpedia(run, tmp_path / "out", creator="me")


def test_a_run_without_label_effects_is_exported_with_d(tmp_path: Path):
    make_run(tmp_path / "store", "one", layers=1)
    run = Store(tmp_path / "store").run("one")
    shutil.rmtree(run.directory / EFFECTS)
    export_neuronpedia(run, tmp_path / "out", creator="me")
    source = tmp_path / "out" / "one" / f"0-{SOURCE_SET}"
    (metadata,) = rows(source / "source.jsonl")
    assert "Cohen's d of the feature for them" in metadata["notes"]
    for row in rows(source / "features" / "batch-0.jsonl.gz")[:5]:
        rows_by_d = run.rows(
            "SELECT label, d_head AS d FROM feature_labels JOIN labels USING (label_id) "
            "WHERE feature = $1 AND d_head IS NOT NULL AND NOT isnan(d_head) ORDER BY d",
            [int(row["index"])],
        )
        assert row["pos_values"] == pytest.approx([item["d"] for item in reversed(rows_by_d)])
        assert row["neg_str"] == [item["label"] for item in rows_by_d]
        assert sum(row["logits_hist_data_bar_heights"]) == len(rows_by_d)


def test_a_run_without_contexts_has_excerpts_of_its_strongest_positions(tmp_path: Path):
    make_run(tmp_path / "store", "old", layers=1, run_format=3)
    run = Store(tmp_path / "store").run("old")
    export_neuronpedia(run, tmp_path / "out", creator="me")
    source = tmp_path / "out" / "old" / f"0-{SOURCE_SET}"
    (metadata,) = rows(source / "source.jsonl")
    assert "other tokens of an excerpt are written as 0" in metadata["notes"]
    excerpts = [row for row in rows(source / "activations" / "batch-0.jsonl.gz") if row["index"] == "4"]
    positions = run.rows(
        "SELECT DISTINCT ON (document) token, activation FROM top_tokens WHERE feature = 4 ORDER BY document, rank"
    )
    written = sorted((row["tokens"][row["qualifyingTokenIndex"]], row["maxValue"]) for row in excerpts)
    stored = sorted((row["token"], row["activation"]) for row in positions)
    assert [token for token, _ in written] == [token for token, _ in stored]
    assert [value for _, value in written] == pytest.approx([value for _, value in stored])


def test_rows_have_what_neuronpedia_checks(tmp_path: Path):
    """Rules of its schema: ids of models without dots, an owner, a list where there is no vector."""
    make_run(tmp_path / "store", "base.v2", layers=1)
    run = Store(tmp_path / "store").run("base.v2")
    export_neuronpedia(run, tmp_path / "out", creator="me")
    source = tmp_path / "out" / "base-v2" / f"0-{SOURCE_SET}"
    (model,) = rows(source / "model.jsonl")
    assert re.fullmatch("[a-zA-Z0-9-_]+", model["id"])
    assert model["owner"] == "me"
    assert (model["layers"], model["neuronsPerLayer"]) == (run.manifest.classifier.layers, 0)
    for row in rows(source / "features" / "batch-0.jsonl.gz"):
        assert (row["modelId"], row["hasVector"], row["vector"]) == (model["id"], False, [])


def test_the_width_of_the_mlps_is_that_of_the_model(small_case: SmallCase, tmp_path: Path):
    index(with_index(small_case, tmp_path / "store"))
    run = Store(tmp_path / "store").run("small")
    export_neuronpedia(run, tmp_path / "out", creator="me")
    (model,) = rows(tmp_path / "out" / "small" / f"0-{SOURCE_SET}" / "model.jsonl")
    config = json.loads((Path(str(small_case.config.classifier.path)) / "config.json").read_text())
    assert model["neuronsPerLayer"] == config["intermediate_size"] == 64
