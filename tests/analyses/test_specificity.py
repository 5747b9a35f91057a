"""Specificity beside permuted labels, against plain Python on the documents and features of a run."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.truth import label_variety
from tegakari.analyses.label_d import label_d, pooled_activations
from tegakari.analyses.specificity import specificity
from tegakari.analyses.specificity.assignments import half_samples, permutations
from tegakari.analyses.specificity.sample_size import specificity_warnings, sufficient_documents
from tegakari.schemas.analysis_kinds import SPECIFICITY_ANALYSIS
from tegakari.schemas.specificity import SpecificitySettings
from tegakari.store import Run, queries
from tegakari.store.results import analysis_key
from tests.support.factories import Case

SETTINGS = SpecificitySettings(permutations=20, min_active=3)


def test_counts_are_the_sums_of_the_layers(random_run: tuple[Run, Case]):
    run, _ = random_run
    result = specificity(run, SETTINGS)
    variety = [row["variety_head"] for row in run.rows("SELECT variety_head FROM features")]
    assert result.features == len(variety)
    assert result.mean_variety.value == pytest.approx(np.mean(variety))
    assert result.mean_variety.low < result.mean_variety.value < result.mean_variety.high
    unweighted = [
        sum(
            label.cohens_d_unweighted is not None and label.cohens_d_unweighted > 1
            for label in queries.feature_labels(run, row["layer"], row["feature"]).items
        )
        for row in run.rows("SELECT layer, feature FROM features")
    ]
    assert result.unweighted.mean_variety == pytest.approx(np.mean(unweighted))
    assert (result.unweighted.specific, result.unweighted.shared) == (
        unweighted.count(1),
        sum(n > 1 for n in unweighted),
    )
    assert (result.weak, result.specific) == (variety.count(0), variety.count(1))
    assert result.weak + result.specific + result.shared == len(variety)
    at_cutoff = run.rows(
        "SELECT count(*) FILTER (labels > 0) AS above, count(*) FILTER (labels > 0 AND variety_head = 1) AS single, "
        "count(*) FILTER (labels = 1) AS at_cutoff FROM (SELECT layer, feature, count(*) FILTER (d_head > 2) AS labels "
        "FROM feature_labels GROUP BY ALL) JOIN features USING (layer, feature)"
    )[0]
    (at_2,) = (high for high in result.high_d if high.cutoff == 2)
    assert (at_2.features, at_2.single_label, at_2.single_label_at_cutoff) == tuple(at_cutoff.values())


def test_the_null_is_that_of_permuted_labels_one_after_the_other(random_run: tuple[Run, Case]):
    run, _ = random_run
    result = specificity(run, SETTINGS)
    label = np.asarray(run.blocks.documents.label_id)
    for layer in result.layers:
        pooled = pooled_activations(run, layer.layer)
        specific, supported, shared, above, single, mean_variety = [], [], [], [], [], []
        for assignment in permutations(label, SETTINGS.permutations, SETTINGS.seed):
            d = np.nan_to_num(label_d(pooled, assignment, len(run.labels)), nan=-np.inf)
            variety = (d > 1).sum(0)
            documents_active = [
                len({*pooled.document[pooled.feature == feature]} & {*np.flatnonzero(assignment == best)})
                for feature, best in enumerate(d.argmax(0))
            ]
            specific.append((variety == 1).sum())
            supported.append(((variety == 1) & (np.array(documents_active) >= SETTINGS.min_active)).sum())
            shared.append((variety > 1).sum())
            mean_variety.append(variety.mean())
            above.append((d.max(0) > 1.5).sum())
            single.append(((d.max(0) > 1.5) & (variety == 1)).sum())
        chance = layer.chance
        assert chance is not None
        (high,) = (high for high in chance.high_d if high.cutoff == 1.5)
        for null, values in (
            (chance.specific, specific),
            (chance.supported_by_chance, supported),
            (chance.shared, shared),
            (chance.mean_variety, mean_variety),
            (high.features, above),
            (high.single_label, single),
        ):
            assert (null.value, null.low, null.high) == pytest.approx(
                (np.mean(values), *np.percentile(values, (2.5, 97.5)))
            )


def test_halves_have_half_of_the_documents_of_every_label():
    label = np.repeat(np.arange(5), [1, 2, 7, 8, 21])
    halves = half_samples(label, 30, 0)
    for half in halves:
        kept = half >= 0
        np.testing.assert_array_equal(half[kept], label[kept])
        assert (np.abs(2 * np.bincount(label[kept], minlength=5) - np.bincount(label)) <= 1).all()
    assert len({tuple(half) for half in halves}) == 30
    assert (halves >= 0).mean() == pytest.approx(0.5, abs=0.02)


def test_significant_features_are_summed_over_layers(random_run: tuple[Run, Case]):
    run, _ = random_run
    result = specificity(run, SETTINGS)
    chances = [layer.chance for layer in result.layers if layer.chance]
    assert result.chance.significant == sum(chance.significant for chance in chances) > 0
    assert result.chance.significant_specific == sum(chance.significant_specific for chance in chances)


def test_the_queries_have_the_stored_null(random_run: tuple[Run, Case]):
    run, _ = random_run
    result = specificity(run, SETTINGS)
    key = analysis_key(SPECIFICITY_ANALYSIS, [run.manifest], SETTINGS)
    assert queries.specificity(run, analysis=key) == result.layers
    assert all(layer.chance is None for layer in queries.specificity(run))  # of the defaults none is stored
    assert all(layer.chance is None for layer in queries.specificity(run, pooling="max"))
    assert specificity(run, SETTINGS) == result  # `seconds` included: it is read


@pytest.mark.parametrize(("documents", "labels"), [(30, 77), (120, 107), (40, 16), (1000, 16)])
def test_sufficient_documents_are_the_fewest_that_give_the_threshold(documents: int, labels: int):
    label = np.repeat(np.arange(labels), documents)

    def d(active: int) -> float:
        values = np.zeros(len(label))
        values[:active] = 1
        a, b = values[label == 0], values[label != 0]
        pooled = ((len(a) - 1) * a.var(ddof=1) + (len(b) - 1) * b.var(ddof=1)) / (len(values) - 2)
        return (a.mean() - b.mean()) / np.sqrt(pooled)

    number = sufficient_documents(documents, len(label), 1.0)
    assert d(number) > 1
    assert number == 1 or d(number - 1) <= 1


@pytest.mark.parametrize(("above", "documents"), [(1, "{0}"), (3, "{0} to {1}")])
def test_too_few_documents_are_a_warning(random_run: tuple[Run, Case], above: int, documents: str):
    run, _ = random_run
    total, threshold = sum(run.label_documents), run.manifest.variety_threshold
    fewest = min(sufficient_documents(n, total, threshold) for n in run.label_documents)
    settings = SpecificitySettings(min_active=fewest + above)
    chance = specificity(run, SETTINGS).chance
    (warning,) = specificity_warnings(run, settings, 0, chance)
    assert f"active in {documents.format(fewest, fewest + above - 1)} documents of the label" in warning


def test_the_interval_of_the_mean_variety_covers():
    for row in label_variety.simulate(20):
        assert row.at_least is not None
        assert row.value >= row.at_least - 0.08, row
