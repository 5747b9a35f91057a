"""Classification, sparsity, cues and specificity agree with plain Python on the tables of a run."""

from __future__ import annotations

import math
import unicodedata
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, f1_score

from tegakari.analyses.classification import classification
from tegakari.analyses.cues import feature_cues, label_cues, normalised
from tegakari.analyses.sparsity import sparsity
from tegakari.analyses.specificity import overall_specificity
from tegakari.schemas.errors import NotFoundError
from tegakari.store import Run, Store
from tests.support.factories import Case, make_run, random_case


@pytest.fixture(scope="module")
def random_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, Case]:
    directory = tmp_path_factory.mktemp("drawn")
    make_run(directory, "drawn")
    return Store(directory).run("drawn"), random_case()


def test_scores_agree_with_sklearn(random_run: tuple[Run, Case]):
    run, _ = random_run
    rows = run.rows("SELECT label_id, predicted_id FROM documents")
    expected, predicted = ([row[name] for row in rows] for name in ("label_id", "predicted_id"))
    result = classification(run)
    assert result.macro_f1.value == pytest.approx(
        f1_score(expected, predicted, average="macro", labels=sorted(set(expected)))
    )
    assert result.accuracy.value == pytest.approx(accuracy_score(expected, predicted))
    assert result.macro_f1.low < result.macro_f1.value < result.macro_f1.high
    assert (result.documents, result.labels) == (len(rows), len(set(expected)))
    assert result.baseline_macro_f1 is None
    assert classification(run) == result


def test_the_width_of_an_interval_is_that_of_the_normal_approximation(random_run: tuple[Run, Case]):
    result = classification(random_run[0])
    spread = math.sqrt(result.accuracy.value * (1 - result.accuracy.value) / result.documents)
    assert result.accuracy.high - result.accuracy.low == pytest.approx(2 * 1.96 * spread, rel=0.15)


def test_sparsity_agrees_with_the_activations(random_run: tuple[Run, Case]):
    run, case = random_run
    result = sparsity(run)
    assert result.pooling == run.manifest.pooling
    means = []
    for layer, row in enumerate(result.layers):
        pooled = case.pooled(layer, run.manifest.pooling)
        assert row.active.value == pytest.approx((pooled > 0).sum(1).mean())
        mass, top = pooled.sum(1), np.sort(pooled, 1)[:, -20:].sum(1)
        ratios = top[mass > 0] / mass[mass > 0]
        assert row.silent == int((mass == 0).sum())
        assert row.top20_ratio
        assert row.top20_ratio.value == pytest.approx(ratios.mean(), rel=1e-3)
        activations = np.concatenate(case.activations[layer])
        assert row.per_position == pytest.approx((activations > 0).sum(1).mean())
        means.append(row.active.value)
    assert result.active.value == pytest.approx(np.mean(means))
    assert result.active_of_all_layers == pytest.approx(np.sum(means))


def test_cues_of_a_feature_agree_with_its_top_tokens(random_run: tuple[Run, Case]):
    run, _ = random_run
    checked = 0
    for layer in range(3):
        for feature in range(40):
            rows = run.rows(
                "SELECT activation, token_id, token FROM top_tokens WHERE layer = $l AND feature = $f ORDER BY rank",
                {"l": layer, "f": feature},
            )
            result = feature_cues(run, layer, feature)
            if not rows:
                assert result is None
                continue
            assert result
            strong = [row for row in rows if row["activation"] >= 0.5 * rows[0]["activation"]]
            ids = Counter(row["token_id"] for row in strong)
            forms = Counter(unicodedata.normalize("NFKC", row["token"]).casefold().strip() for row in strong)
            assert result.positions == len(strong)
            assert result.by_token.unique_tokens == len(ids)
            assert result.by_token.top_token_share == pytest.approx(max(ids.values()) / len(strong))
            assert result.by_form.unique_tokens == len(forms)
            assert result.by_form.top_token_share == pytest.approx(max(forms.values()) / len(strong))
            assert [token.positions for token in result.tokens] == sorted(forms.values(), reverse=True)[:10]
            assert result.cut == (len(strong) == run.manifest.top_tokens)
            checked += 1
    assert checked > 50


def test_cues_of_a_label_are_means_over_its_features_with_the_largest_d(random_run: tuple[Run, Case]):
    run, _ = random_run
    for layer in (None, 1):
        result = label_cues(run, run.labels[1], layer=layer, k=7)
        assert len(result.features) == 7
        assert [cues.d for cues in result.features] == sorted((cues.d for cues in result.features), reverse=True)
        assert layer is None or {cues.layer for cues in result.features} == {layer}
        shares = [cues.by_form.top_token_share for cues in result.features]
        assert result.top_token_share.value == pytest.approx(np.mean(shares))
        assert result.unique_tokens.value == pytest.approx(
            np.mean([cues.by_form.unique_tokens for cues in result.features])
        )
        assert result.unique_tokens.low <= result.unique_tokens.value <= result.unique_tokens.high


@pytest.mark.parametrize(
    ("token", "form"),
    [("▁Ｃar", "car"), ("Ġcar", "car"), (" CAR", "car"), ("㍻", "平成"), ("\u3000", "\u3000"), ("ｶﾞ", "ガ")],
)
def test_forms_are_normalised(token: str, form: str):
    assert normalised(token) == form


def test_unknown_labels_layers_and_features_are_refused(random_run: tuple[Run, Case], tmp_path: Path):
    run, _ = random_run
    for query in ({"label": "none"}, {"label": run.labels[0], "layer": 9}):
        with pytest.raises(NotFoundError):
            label_cues(run, **query)
    with pytest.raises(NotFoundError):
        feature_cues(run, 0, 40)


def test_overall_specificity_is_the_sum_of_the_layers(random_run: tuple[Run, Case]):
    run, _ = random_run
    result = overall_specificity(run)
    variety = [row["variety_last"] for row in run.rows("SELECT variety_last FROM features")]
    assert result.features == len(variety)
    assert result.mean_variety.value == pytest.approx(np.mean(variety))
    assert (result.weak, result.specific) == (variety.count(0), variety.count(1))
    assert result.weak + result.specific + result.shared == len(variety)
    counts = run.rows(
        "SELECT count(*) FILTER (labels > 0) AS above, count(*) FILTER (labels = 1) AS single FROM "
        "(SELECT layer, feature, count(*) FILTER (d_last > 2) AS labels FROM feature_labels GROUP BY ALL)"
    )[0]
    (at_2,) = (high for high in result.high_d if high.cutoff == 2)
    assert (at_2.features, at_2.single_label) == (counts["above"], counts["single"])
