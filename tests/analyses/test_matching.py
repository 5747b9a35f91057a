"""Matching of two runs: an SAE is matched with a copy whose features are shuffled and partly replaced."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import msgspec
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from tegakari.analyses.matching import _correlated_pairs, _cosine_null, best_matches, match_features, standardised
from tegakari.indexer.pipeline import index
from tegakari.schemas.errors import NotFoundError
from tegakari.store import Run, Store
from tests.support.factories import make_run
from tests.support.small_case import SmallCase, trained_run, with_index

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
    active = [np.asarray(run.blocks.features["active_positions"][run.blocks.places.slice_of(1)]) > 0 for run in runs]
    same = active[0][order][REPLACED:] & active[1][REPLACED:]
    assert same.sum() > 10
    shuffled = matching.layers[1]
    assert shuffled.by_cosine
    assert {shared.pairs for shared in shuffled.by_cosine} <= set(range(same.sum(), same.sum() + 2))
    unchanged_layer = matching.layers[0]  # equal SAEs whose features have equal numbers
    assert unchanged_layer.by_cosine is None
    assert unchanged_layer.no_cosine
    assert "began alike" in unchanged_layer.no_cosine
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


def test_the_null_of_cosines_is_that_of_independent_directions():
    """99 of 100 features of independently initialised SAEs have no cosine above the null."""
    null = _cosine_null(300, 400, 32)
    rng = np.random.default_rng(7)
    a, b = (rng.normal(size=(32, n)) for n in (300, 400))
    cosines = (a / np.linalg.norm(a, axis=0)).T @ (b / np.linalg.norm(b, axis=0))
    best = np.concatenate([cosines.max(1), cosines.max(0)])
    assert 0.0 < (best > null).mean() < 0.03
    assert null == _cosine_null(300, 400, 32)


def test_permuted_documents_count_what_chance_shares():
    """Features that are active in one document each correlate perfectly whenever the documents are the same."""
    rng = np.random.default_rng(0)
    planted = rng.normal(size=(200, 30))

    def run_activations(noise: int) -> np.ndarray:
        rare = np.zeros((200, 150))
        rare[rng.integers(0, 200, 150), np.arange(150)] = 1
        own = planted + 0.1 * np.random.default_rng(noise).normal(size=planted.shape)
        values = np.concatenate([own, rare], 1)
        values -= values.mean(0)
        return (values / np.linalg.norm(values, axis=0)).astype(np.float32)

    a, b = run_activations(1), run_activations(2)
    counts = _correlated_pairs(best_matches(a, b), best_matches(a, b[rng.permutation(200)]))
    for count in counts:
        expected = ((a.T @ b) >= count.cutoff) & (a.T @ b == (a.T @ b).max(0)) & (a.T @ b == (a.T @ b).max(1)[:, None])
        assert abs(count.pairs - expected.any(1).sum()) <= 30  # ties of features with one document
        assert 20 < count.by_chance < 100
        assert 25 < count.pairs - count.by_chance < 60


def test_saes_report_how_far_they_moved_from_their_start(small_case: SmallCase, tmp_path: Path):
    """One SAE set hardly learns and one does; a third begins with the directions of the first."""
    still = trained_run(small_case, tmp_path, "still", learning_rate=1e-9, epochs=1)
    moved = trained_run(small_case, tmp_path, "moved", seed=1, learning_rate=0.03)
    alike = trained_run(small_case, tmp_path, "alike", learning_rate=1e-9, epochs=2)
    matching = match_features(still, moved)
    for row in matching.layers:
        at_start, away = row.moved
        assert at_start
        assert away
        assert at_start.mean_cosine > 0.999
        assert at_start.near_start == 1
        assert away.mean_cosine < 0.9
        assert row.by_cosine  # other seeds: compared, and nothing is shared
        assert [shared.pairs for shared in row.by_cosine] == [0, 0, 0]
    for row in match_features(still, alike).layers:  # all cosines are 1, for no reason but the start
        assert row.by_cosine is None
        assert row.no_cosine == "both SAEs began with the same directions"
