"""Contexts and probes of a run, as stored and as read."""

from __future__ import annotations

import numpy as np
import pytest

from tegakari.store import Run, Store
from tegakari.store.contexts import FeatureContexts, feature_contexts, layer_contexts, probes, silent_probes
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


def test_ranges_of_a_layer_have_the_contexts_of_their_features(run: Run, monkeypatch: pytest.MonkeyPatch):
    covered: list[int] = []
    for features, part in layer_contexts(run, 0):
        covered += features
        for feature in features:
            for values, column in zip(feature_contexts(run, 0, feature), part.contexts, strict=True):
                assert np.array_equal(values, column[part.feature == feature])
    assert covered == list(range(40))


def test_silent_probes_are_those_without_an_active_token(run: Run):
    expected = plain_probes(CASE.documents)
    assert all(map(np.array_equal, probes(run), expected))
    active = plain_probe_bits(CASE.activations[2], expected)
    assert all(np.array_equal(silent_probes(run, 2, feature), ~active[feature]) for feature in range(40))
