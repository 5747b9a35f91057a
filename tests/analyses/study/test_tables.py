"""Classification, sparsity and cues against what plain Python makes of the tables of a run."""

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
def drawn(tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, Case]:
    directory = tmp_path_factory.mktemp("drawn")
    make_run(directory, "drawn")
    return Store(directory).run("drawn"), random_case()


def test_scores_are_sklearns(drawn: tuple[Run, Case]):
    run, _ = drawn
    rows = run.rows("SELECT label_id, predicted_id FROM documents")
    own, predicted = ([row[name] for row in rows] for name in ("label_id", "predicted_id"))
    found = classification(run)
    assert found.macro_f1.value == pytest.approx(f1_score(own, predicted, average="macro", labels=sorted(set(own))))
    assert found.accuracy.value == pytest.approx(accuracy_score(own, predicted))
    assert found.macro_f1.low < found.macro_f1.value < found.macro_f1.high
    assert (found.documents, found.labels) == (len(rows), len(set(own)))
    assert found.baseline_macro_f1 is None
    assert classification(run) == found


def test_the_interval_holds_the_truth_of_a_known_accuracy(drawn: tuple[Run, Case]):
    found = classification(drawn[0])
    spread = math.sqrt(found.accuracy.value * (1 - found.accuracy.value) / found.documents)
    assert found.accuracy.high - found.accuracy.low == pytest.approx(2 * 1.96 * spread, rel=0.15)


def test_sparsity_is_that_of_the_activations(drawn: tuple[Run, Case]):
    run, case = drawn
    found = sparsity(run)
    assert found.pooling == run.manifest.pooling
    means = []
    for layer, row in enumerate(found.layers):
        pooled = case.pooled(layer, run.manifest.pooling)
        assert row.active.value == pytest.approx((pooled > 0).sum(1).mean())
        mass, top = pooled.sum(1), np.sort(pooled, 1)[:, -20:].sum(1)
        ratios = top[mass > 0] / mass[mass > 0]
        assert row.silent == int((mass == 0).sum())
        assert row.top20_ratio
        assert row.top20_ratio.value == pytest.approx(ratios.mean(), rel=1e-3)
        every = np.concatenate(case.activations[layer])
        assert row.per_position == pytest.approx((every > 0).sum(1).mean())
        means.append(row.active.value)
    assert found.active.value == pytest.approx(np.mean(means))
    assert found.active_of_all_layers == pytest.approx(np.sum(means))


def test_cues_of_a_feature_by_hand(drawn: tuple[Run, Case]):
    run, _ = drawn
    seen = 0
    for layer in range(3):
        for feature in range(40):
            rows = run.rows(
                "SELECT activation, token_id, token FROM top_tokens WHERE layer = $l AND feature = $f ORDER BY rank",
                {"l": layer, "f": feature},
            )
            found = feature_cues(run, layer, feature)
            if not rows:
                assert found is None
                continue
            assert found
            strong = [row for row in rows if row["activation"] >= 0.5 * rows[0]["activation"]]
            ids = Counter(row["token_id"] for row in strong)
            forms = Counter(unicodedata.normalize("NFKC", row["token"]).casefold().strip() for row in strong)
            assert found.positions == len(strong)
            assert found.by_token.unique_tokens == len(ids)
            assert found.by_token.top_token_share == pytest.approx(max(ids.values()) / len(strong))
            assert found.by_form.unique_tokens == len(forms)
            assert found.by_form.top_token_share == pytest.approx(max(forms.values()) / len(strong))
            assert [token.positions for token in found.tokens] == sorted(forms.values(), reverse=True)[:10]
            assert found.cut == (len(strong) == run.manifest.top_tokens)
            seen += 1
    assert seen > 50


def test_cues_of_a_label_are_means_over_its_strongest_features(drawn: tuple[Run, Case]):
    run, _ = drawn
    for layer in (None, 1):
        found = label_cues(run, run.labels[1], layer=layer, k=7)
        assert len(found.features) == 7
        assert [each.d for each in found.features] == sorted((each.d for each in found.features), reverse=True)
        assert layer is None or {each.layer for each in found.features} == {layer}
        shares = [each.by_form.top_token_share for each in found.features]
        assert found.top_token_share.value == pytest.approx(np.mean(shares))
        assert found.unique_tokens.value == pytest.approx(
            np.mean([each.by_form.unique_tokens for each in found.features])
        )
        assert found.unique_tokens.low <= found.unique_tokens.value <= found.unique_tokens.high


@pytest.mark.parametrize(
    ("token", "form"),
    [("▁Ｃar", "car"), ("Ġcar", "car"), (" CAR", "car"), ("㍻", "平成"), ("\u3000", "\u3000"), ("ｶﾞ", "ガ")],
)
def test_forms_are_normalised(token: str, form: str):
    assert normalised(token) == form


def test_what_is_not_there_is_said(drawn: tuple[Run, Case], tmp_path: Path):
    run, _ = drawn
    for asked in ({"label": "none"}, {"label": run.labels[0], "layer": 9}):
        with pytest.raises(NotFoundError):
            label_cues(run, **asked)
    with pytest.raises(NotFoundError):
        feature_cues(run, 0, 40)


def test_overall_specificity_is_the_sum_of_the_layers(drawn: tuple[Run, Case]):
    run, _ = drawn
    found = overall_specificity(run)
    variety = [row["variety_last"] for row in run.rows("SELECT variety_last FROM features")]
    assert found.features == len(variety)
    assert found.mean_variety.value == pytest.approx(np.mean(variety))
    assert (found.weak, found.specific) == (variety.count(0), variety.count(1))
    assert found.weak + found.specific + found.shared == len(variety)
    best = run.rows(
        "SELECT count(*) FILTER (labels > 0) AS above, count(*) FILTER (labels = 1) AS single FROM "
        "(SELECT layer, feature, count(*) FILTER (d_last > 2) AS labels FROM feature_labels GROUP BY ALL)"
    )[0]
    (at,) = (each for each in found.high_d if each.cutoff == 2)
    assert (at.features, at.single_label) == (best["above"], best["single"])
