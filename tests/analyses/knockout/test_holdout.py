"""Holdout: features are chosen on one half of the documents, and effects measured on the other."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest

from tegakari.analyses.engine.run_models import RunModels
from tegakari.analyses.knockout import holdout as holdout_module
from tegakari.analyses.knockout import knock_out, resolve, sweeps
from tegakari.analyses.knockout.holdout import Holdout, holdout_of
from tegakari.analyses.knockout.settings import ablated_features
from tegakari.analyses.label_d import PooledActivations, pooled_activations
from tegakari.schemas.errors import NotFoundError, QueryError
from tegakari.schemas.knockout import KnockoutSettings, LayerFeature
from tegakari.store import Run, Store
from tegakari.store.queries.runs import evaluation_documents
from tests.support.factories import LABELS, make_run

K = 6


def numbers(run: Run, label: str) -> set[int]:
    evaluation = evaluation_documents(run)
    return set(evaluation[np.asarray(run.blocks.documents.label_id)[evaluation] == run.label_id(label)].tolist())


def test_the_halves_are_a_partition_of_each_label(run: Run):
    holdout = Holdout(run, 0)
    for label in run.labels:
        choice, measurement = set(holdout.choice(label).tolist()), set(holdout.measurement(label).tolist())
        assert choice | measurement == numbers(run, label)
        assert not choice & measurement
        assert abs(len(choice) - len(measurement)) <= 1
    others = [Holdout(run, seed).choice(run.labels[0]).tolist() for seed in range(5)]
    assert len(set(map(tuple, others))) == 5


def test_d_is_over_the_choice_half(run: Run):
    holdout = Holdout(run, 3)
    pooled = pooled_activations(run, 1)
    values = np.zeros((pooled.documents, pooled.features))
    values[pooled.document, pooled.feature] = pooled.activation
    of_label = {label: values[holdout.choice(label)] for label in run.labels}
    for label in run.labels:
        a = of_label[label]
        b = np.concatenate([of_other for other, of_other in of_label.items() if other != label])
        m2 = ((a - a.mean(0)) ** 2).sum(0) + ((b - b.mean(0)) ** 2).sum(0)
        with np.errstate(invalid="ignore", divide="ignore"):
            d = (a.mean(0) - b.mean(0)) / np.sqrt(m2 / (len(a) + len(b) - 2))
        strongest = holdout.strongest(label, 1, K)
        assert [chosen.feature for chosen in strongest] == np.argsort(-d, kind="stable")[:K].tolist()
        np.testing.assert_allclose([chosen.d for chosen in strongest], np.sort(d[~np.isnan(d)])[::-1][:K], rtol=1e-5)


def perturbed(run: Run, documents: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> Holdout:
    """A holdout of the run in which activations of these documents are drawn anew."""

    def drawn(run: Run, layer: int) -> PooledActivations:
        pooled = pooled_activations(run, layer)
        changed = np.isin(pooled.document, documents)
        activation = np.where(changed, np.random.default_rng(layer).exponential(9, changed.shape), pooled.activation)
        return pooled._replace(activation=activation)

    monkeypatch.setattr(holdout_module, "pooled_activations", drawn)
    return Holdout(run, 0)


def test_the_choice_uses_no_document_of_the_measurement_half(run: Run, monkeypatch: pytest.MonkeyPatch):
    holdout = holdout_of(run, 0)
    for half, equal in ((holdout.measurement, True), (holdout.choice, False)):
        documents = np.concatenate([half(label) for label in run.labels])
        other = perturbed(run, documents, monkeypatch)
        chosen = [
            of_holdout.strongest(label, layer, K)
            for of_holdout in (holdout, other)
            for label in run.labels
            for layer in run.manifest.saes.layers
        ]
        monkeypatch.undo()
        assert (chosen[: len(chosen) // 2] == chosen[len(chosen) // 2 :]) is equal


def test_a_knockout_is_measured_on_the_other_half(store: Path, run: Run, models: RunModels):
    label = run.labels[0]
    settings = KnockoutSettings(label=label, layer=1, k=K, draws=2, holdout=True, details="predictions")
    result = knock_out(store, run, models, settings)
    ids = run.blocks.documents.id.to_pylist()
    assert result.outcomes
    measured = [outcome.document for outcome in result.outcomes]
    assert measured == [ids[number] for number in holdout_of(run, 0).measurement(label)]
    assert [(row.feature, row.cohens_d) for row in result.features] == [
        tuple(chosen) for chosen in holdout_of(run, 0).strongest(label, 1, K)
    ]
    named = msgspec.structs.replace(result.settings, holdout=False, documents=measured, documents_of=None, label=None)
    named = msgspec.structs.replace(named, layer=None, pooling=None)
    named = msgspec.structs.replace(named, features=[LayerFeature(1, row.feature) for row in result.features])
    same = knock_out(store, run, models, named)
    assert (same.delta, same.net, same.lost, same.survived) == (result.delta, result.net, result.lost, result.survived)


def test_features_one_by_one_are_chosen_and_measured_on_different_halves(store: Path, run: Run, models: RunModels):
    settings = KnockoutSettings(label=run.labels[1], layer=0, k=3, draws=0, holdout=True)
    results = sweeps.over_features(store, run, lambda: models, settings)
    chosen = holdout_of(run, 0).strongest(run.labels[1], 0, 3)
    assert [(row.features[0].feature, row.features[0].cohens_d) for row in results] == [
        tuple(feature) for feature in chosen
    ]
    assert {row.documents for row in results} == {len(holdout_of(run, 0).measurement(run.labels[1]))}


@pytest.mark.parametrize(
    ("changes", "field", "message"),
    [
        ({"pooling": "max"}, "pooling", "whose pooling is 'head'"),
        ({"label": None, "layer": None, "features": [LayerFeature(0, 1)], "texts": ["a"]}, "holdout", "halves"),
    ],
)
def test_a_holdout_that_cannot_be_is_refused(run: Run, changes: dict[str, object], field: str, message: str):
    settings = msgspec.structs.replace(KnockoutSettings(label=run.labels[0], layer=1, holdout=True), **changes)
    with pytest.raises(QueryError, match=message) as refused:
        resolve(run, settings)
    assert refused.value.field == field
    assert refused.value.fix


def test_a_label_of_few_documents_is_refused(tmp_path: Path):
    make_run(tmp_path, "few", documents_per_label=(6, 6, 3, 6, 6, 6))
    run = Store(tmp_path).run("few")
    settings = KnockoutSettings(label=LABELS[2], layer=1, k=2, holdout=True)
    with pytest.raises(NotFoundError, match="3 evaluation documents") as refused:
        ablated_features(run, resolve(run, settings))
    assert refused.value.field == "holdout"
