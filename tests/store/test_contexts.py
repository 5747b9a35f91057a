"""Contexts and probes of a run, as stored and as read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tegakari.schemas.errors import NotFoundError, StoreError
from tegakari.store import Run, Store, queries
from tegakari.store.contexts import FeatureContexts, feature_contexts, layer_contexts, probes, silent_probes
from tegakari.store.disk.layout import context_file
from tegakari.store.disk.publish import damaged_files
from tests.support.factories import TOP_TOKENS, UNEVEN_COUNTS, make_run, random_case
from tests.support.plain_contexts import plain_contexts, plain_probe_bits, plain_probes

CASE = random_case(documents_per_label=UNEVEN_COUNTS)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    store = tmp_path_factory.mktemp("store")
    make_run(store, "drawn", documents_per_label=UNEVEN_COUNTS)
    return Store(store).run("drawn")


def test_contexts_of_a_feature_are_those_of_the_definition(run: Run):
    for layer, activations in enumerate(CASE.activations):
        expected = plain_contexts(CASE.documents, activations, layer, TOP_TOKENS)
        for feature in range(activations[0].shape[1]):
            contexts = feature_contexts(run, layer, feature)
            for name, values, column in zip(FeatureContexts._fields, contexts, expected.contexts, strict=True):
                assert np.array_equal(values, column[expected.feature == feature]), (layer, feature, name)


def test_ranges_of_a_layer_have_the_contexts_of_their_features(run: Run):
    covered: list[int] = []
    for features, part in layer_contexts(run, 0):
        covered += features
        for feature in features:
            for values, column in zip(feature_contexts(run, 0, feature), part.contexts, strict=True):
                assert np.array_equal(values, column[part.feature == feature])
    assert covered == list(range(40))


def test_positions_are_read_without_their_windows(run: Run):
    for (features, part), (same_features, positions) in zip(
        layer_contexts(run, 1), layer_contexts(run, 1, windows=False), strict=True
    ):
        assert same_features == features
        assert np.array_equal(positions.feature, part.feature)
        for name, column in zip(FeatureContexts._fields[:5], part.contexts, strict=False):
            assert np.array_equal(getattr(positions.contexts, name), column)
        assert [len(column) for column in positions.contexts[5:]] == [0, 0, 0]


def test_a_run_of_format_3_is_read_and_names_the_command_that_adds_contexts(tmp_path: Path):
    make_run(tmp_path, "old", run_format=3)
    old = Store(tmp_path).run("old")
    assert queries.feature(old, 0, 0).labels
    assert damaged_files(tmp_path, "old") == []
    for read in (feature_contexts, silent_probes):
        with pytest.raises(NotFoundError, match="has no contexts") as caught:
            read(old, 0, 0)
        assert caught.value.fix == "`tegakari runs add-contexts old` adds them"


def test_a_feature_whose_contexts_are_in_two_row_groups_is_in_one_range(tmp_path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("tegakari.store.context_writer.ROW_GROUP", 17)
    monkeypatch.setattr("tegakari.store.contexts._GROUPS_AT_ONCE", 2)
    make_run(tmp_path, "drawn", documents_per_label=UNEVEN_COUNTS)
    cut = Store(tmp_path).run("drawn")
    expected = plain_contexts(CASE.documents, CASE.activations[0], 0, TOP_TOKENS)
    parts = list(layer_contexts(cut, 0))
    assert len(parts) > 3
    assert [feature for features, _ in parts for feature in features] == list(range(40))
    for features, part in parts:
        assert set(part.feature.tolist()) <= set(features)
    np.testing.assert_array_equal(np.concatenate([part.feature for _, part in parts]), expected.feature)
    document = np.concatenate([part.contexts.document for _, part in parts])
    np.testing.assert_array_equal(document, expected.contexts.document)
    np.testing.assert_array_equal(
        feature_contexts(cut, 0, 9).position, expected.contexts.position[expected.feature == 9]
    )


def test_numbers_outside_of_the_run_are_damage(tmp_path: Path):
    make_run(tmp_path, "drawn")
    file = context_file(tmp_path / "runs" / "drawn", 0)
    rows = pq.read_table(file, partitioning=None)
    for name, value in (("document", 10**6), ("position", -1), ("start", 99), ("quantile", 11)):
        index = rows.schema.get_field_index(name)
        wrong = pa.array([value] * len(rows), pa.int32())
        pq.write_table(rows.set_column(index, name, wrong), file)
        with pytest.raises(StoreError, match="numbers outside of the run"):
            feature_contexts(Store(tmp_path).run("drawn"), 0, 0)


def test_silent_probes_are_those_without_an_active_token(run: Run):
    expected = plain_probes(CASE.documents)
    assert all(map(np.array_equal, probes(run), expected))
    active = plain_probe_bits(CASE.activations[2], expected)
    assert all(np.array_equal(silent_probes(run, 2, feature), ~active[feature]) for feature in range(40))
