"""Matching of two runs: an SAE is matched with a copy whose features are shuffled and partly replaced."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import msgspec
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from tegakari.analyses.matching import best_matches, match_features, standardised
from tegakari.indexer.pipeline import index
from tegakari.schemas.errors import NotFoundError
from tegakari.store import Run, Store
from tests.support.factories import make_run
from tests.support.small_case import SmallCase, with_index

REPLACED = 10
"""Features of layer 1 whose encoder and direction are replaced by random ones."""


@pytest.fixture(scope="module")
def two_runs(small_case: SmallCase, tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Run], np.ndarray]:
    """A run, and a run whose SAE of layer 1 has the same features in another order, some of them replaced."""
    root = tmp_path_factory.mktemp("matching")
    config = with_index(small_case, root / "store", pooling="max")
    index(config)
    saes = root / "saes"
    shutil.copytree(config.saes.path, saes)
    (file,) = [path for path in saes.rglob("*.safetensors") if _layer(path) == 1]
    tensors = load_file(file)
    width = tensors["W_enc"].shape[1]
    rng = np.random.default_rng(0)
    order = rng.permutation(width)
    for name, axis in (("W_enc", 1), ("W_dec", 0), ("b_enc", 0)):
        tensors[name] = np.ascontiguousarray(tensors[name].take(order, axis))
    tensors["W_enc"][:, :REPLACED] = rng.normal(size=tensors["W_enc"][:, :REPLACED].shape)
    tensors["W_dec"][:REPLACED] = rng.normal(size=tensors["W_dec"][:REPLACED].shape)
    save_file(tensors, file)
    other = with_index(small_case, root / "store", pooling="max", run="other")
    index(msgspec.structs.replace(other, saes=msgspec.structs.replace(other.saes, path=str(saes))))
    store = Store(root / "store")
    return [store.run("small"), store.run("other")], order


def _layer(path: Path) -> int:
    cfg = json.loads((path.parent / "cfg.json").read_text())
    return int("".join(character for character in path.parent.name if character.isdigit()) or cfg.get("hook_layer", -1))


def test_shuffled_features_are_matched(two_runs: tuple[list[Run], np.ndarray]):
    runs, order = two_runs
    matching = match_features(*runs)
    assert matching.no_cosine is None
    assert matching.shared_documents == runs[0].manifest.corpus.documents
    for row in matching.layers:
        active = [
            np.asarray(run.blocks.features["active_positions"][run.blocks.places.slice_of(row.layer)]) > 0
            for run in runs
        ]
        same = active[0][order][REPLACED:] & active[1][REPLACED:] if row.layer == 1 else active[0] & active[1]
        assert row.by_cosine
        assert {shared.pairs for shared in row.by_cosine} <= set(range(same.sum(), same.sum() + 2))
        assert same.sum() > 10
    numbers = np.arange(matching.shared_documents)
    a, b = (standardised(run, 1, numbers) for run in runs)
    best = best_matches(a, b)[1]
    varies = np.flatnonzero(np.abs(b).max(0) > 0)
    unchanged = varies[varies >= REPLACED]
    assert len(unchanged) > 5
    np.testing.assert_allclose(best.value[unchanged], 1, atol=1e-4)
    same = [np.allclose(a[:, best.match[feature]], a[:, order[feature]], atol=1e-4) for feature in unchanged]
    assert all(same)  # the match is the feature itself, or one with equal activations
    correlated = matching.layers[1].by_correlation[-1].pairs
    assert len(unchanged) * 0.7 <= correlated <= matching.layers[1].active[1]


def test_correlations_agree_with_numpy(two_runs: tuple[list[Run], np.ndarray]):
    (run, _), _ = two_runs
    documents = run.manifest.corpus.documents
    rows = run.directory / "activations"
    assert rows.is_dir()
    dense = np.zeros((documents, run.manifest.saes.widths[0]))
    for part in run.layer_activations(0):
        dense[part.document, part.feature] = part.activation
    scaled = standardised(run, 0, np.arange(documents))
    varies = dense.std(0) > 1e-6
    np.testing.assert_allclose((scaled.T @ scaled)[np.ix_(varies, varies)], np.corrcoef(dense[:, varies].T), atol=1e-4)


def test_best_matches_do_not_depend_on_the_block_size(monkeypatch: pytest.MonkeyPatch):
    rng = np.random.default_rng(1)
    a, b = (rng.normal(size=(20, n)).astype(np.float32) for n in (31, 17))
    whole = best_matches(a, b)
    assert whole[0].match.tolist() == (a.T @ b).argmax(1).tolist()
    assert whole[1].match.tolist() == (a.T @ b).argmax(0).tolist()
    monkeypatch.setattr("tegakari.analyses.matching.FEATURES_PER_BLOCK", 7)
    for one, other in zip(whole, best_matches(a, b), strict=True):
        assert one.match.tolist() == other.match.tolist()
        np.testing.assert_allclose(one.value, other.value, rtol=1e-5)


def test_features_of_only_one_run_are_counted_with_examples(two_runs: tuple[list[Run], np.ndarray]):
    runs, _ = two_runs
    matching = match_features(*runs)
    for row in matching.only:
        assert 0 <= row.only <= row.specific
        assert len(row.examples) == min(row.only, 3)
    specific = {run.name: sum(row.specific for row in matching.only if row.run == run.name) for run in runs}
    for run in runs:
        expected = run.rows("SELECT count(*) AS n FROM features WHERE variety_max = 1")[0]["n"]
        assert specific[run.name] == expected


def test_runs_without_directions_or_documents(tmp_path: Path):
    for seed, name in enumerate(("a", "b")):
        make_run(tmp_path, name, seed=seed)
    store = Store(tmp_path)
    matching = match_features(store.run("a"), store.run("b"))
    assert matching.no_cosine
    assert all(row.by_cosine is None for row in matching.layers)
    make_run(tmp_path, "c", labels=("x", "y"))
    with pytest.raises(NotFoundError, match="no document"):
        match_features(store.run("a"), store.run("c"))
