"""Survival of written variants: by hand, against a plain encoder, and errors in a file of concepts."""

from __future__ import annotations

from itertools import permutations
from pathlib import Path

import msgspec
import numpy as np
import pytest

from tegakari.analyses.engine.run_models import RunModels
from tegakari.analyses.variants import read_concepts, variants
from tegakari.analyses.variants.concepts import fingerprint
from tegakari.analyses.variants.settings import variant_sizes
from tegakari.analyses.variants.survival import TextPairs, group_means, pairs_across, pairs_within, survivals
from tegakari.schemas.analysis_kinds import VARIANTS_ANALYSIS
from tegakari.schemas.errors import ConfigError
from tegakari.schemas.tables import VARIANTS
from tegakari.schemas.variants import Concept, VariantsSettings, WrittenForm, default_sizes
from tegakari.store import Run
from tegakari.store.results import find_analysis
from tests.support.hooked_passes import naive_activations


def concept(name: str, *forms: str, frame: str | None = "明日は{form}です。") -> Concept:
    return Concept(
        concept=name,
        frame=frame,
        forms=[WrittenForm(form=form, sentence=f"{form}が{number}回あります。") for number, form in enumerate(forms)],
    )


CONCEPTS = [
    concept("会議", "会議", "MTG", "打ち合わせ"),
    concept("車", "車", "くるま"),
    concept("笑", "笑顔", "えがお", frame=None),
]


def never() -> RunModels:
    raise AssertionError("it is stored")


def test_survival_by_hand():
    strongest = np.array([[1, 2, 3, 4], [3, 2, 9, -1], [7, 8, -1, -1], [-1, -1, -1, -1]])
    pairs = TextPairs(np.array([0, 1, 0, 2, 0, 3]), np.array([1, 0, 2, 0, 3, 0]), np.array([0, 0, 1, 1, 2, 2]))
    assert survivals(strongest, pairs, 2).tolist()[:4] == [0.5, 0.5, 1, 1]
    survival = survivals(strongest, pairs, 4)
    assert survival.tolist()[:4] == [pytest.approx(1 / 3), 0.5, 1, 1]
    assert np.isnan(survival[4])  # the remaining text has no active feature
    assert survival[5] == 1
    assert group_means(survival, pairs, 4)[:3].tolist() == [pytest.approx((1 / 3 + 0.5) / 2), 1, 1]
    assert np.isnan(group_means(survival, pairs, 4)[3])


def test_pairs_within_concepts_and_across_concepts():
    within = pairs_within(CONCEPTS, [0, 3, None])
    assert set(zip(*within, strict=True)) == {(i, j, 0) for i, j in permutations(range(3), 2)} | {(3, 4, 1), (4, 3, 1)}
    across = pairs_across(CONCEPTS, 10_000, 0)
    concept_of_form = [0, 0, 0, 1, 1, 2, 2]
    pairs = list(zip(across.excluded.tolist(), across.remaining.tolist(), strict=True))
    assert set(pairs) == {(i, j) for i in range(7) for j in range(7) if concept_of_form[i] != concept_of_form[j]}
    assert len(pairs) == len(set(pairs))
    few = pairs_across(CONCEPTS, 5, 1)
    assert len(few.remaining) == 5
    assert few.remaining.tolist() == pairs_across(CONCEPTS, 5, 1).remaining.tolist()


def test_feature_sets_agree_with_a_plain_encoder(store: Path, run: Run, models: RunModels):
    result = variants(store, run, lambda: models, CONCEPTS, [3, 5], unrelated=12)
    classifier, k = models.classifier, 5

    def top(text: str, layer: int) -> list[int]:
        (tokens,) = classifier.tokenize([text])
        residual = {}
        batch = classifier.batch([tokens])
        classifier.run(batch, lambda number, h: residual.update({number: h}), layers=[layer])
        a = np.stack([naive_activations(h, models.saes[layer]).numpy() for h in residual[layer]]).max(0)
        order = sorted(np.flatnonzero(a > 0).tolist(), key=lambda feature: (-a[feature], feature))
        return order[:k]

    rows = {(row.kind, row.k): row for row in result.rows}
    for kind in ("sentences", "frames"):
        row = rows[kind, k]
        means, pairs = [], 0
        for item in CONCEPTS:
            if kind == "frames" and item.frame is None:
                means.append(None)
                continue
            texts = [
                form.sentence if kind == "sentences" else (item.frame or "").replace("{form}", form.form)
                for form in item.forms
            ]
            layers = []
            for layer in run.manifest.saes.layers:
                sets = [set(top(text, layer)) for text in texts]
                values = [len(b - a) / len(b) for a, b in permutations(sets, 2) if b]
                pairs += len(list(permutations(sets, 2))) if layer == 0 else 0
                layers.append(np.mean(values) if values else np.nan)
            means.append(np.nanmean(layers))
        assert row.of_concepts == [None if mean is None else pytest.approx(mean) for mean in means]
        assert row.survival
        assert row.survival.value == pytest.approx(np.mean([mean for mean in means if mean is not None]))
        assert row.survival.low <= row.survival.value <= row.survival.high
        assert row.pairs == pairs
    assert rows["unrelated", k].pairs == 12

    assert variants(store, run, never, CONCEPTS, [5, 3, 3], unrelated=12) == result
    analysis = find_analysis(store, VARIANTS_ANALYSIS, [run.manifest], result.settings)
    assert analysis
    assert analysis.table(VARIANTS).num_rows == 6 * len(run.manifest.saes.layers)


def test_sizes_of_a_stored_result_are_read(store: Path, run: Run, models: RunModels):
    whole = variants(store, run, lambda: models, CONCEPTS, [2, 4, 6], unrelated=12, seed=3)
    part = variants(store, run, never, CONCEPTS, [2, 6], unrelated=12, seed=3)
    assert part.settings == msgspec.structs.replace(whole.settings, ks=[2, 6])
    assert part.rows == [row for row in whole.rows if row.k != 4]
    assert len(part.rows) == 6
    fresh = variants(store, run, lambda: models, CONCEPTS, [2, 6], unrelated=12, seed=4)
    assert fresh.rows != part.rows  # another seed is another result, which was computed


def test_the_default_sizes_are_those_that_every_layer_has(run: Run):
    assert variant_sizes([run], None) == [20]
    assert default_sizes(64) == [20, 50]
    assert VARIANTS_ANALYSIS.defaults is not None
    package_concepts = fingerprint(read_concepts())
    assert VARIANTS_ANALYSIS.defaults(9216) == VariantsSettings(concepts_sha256=package_concepts, ks=[20, 50, 100])


def test_too_large_k_and_forms_without_tokens_are_refused(store: Path, run: Run, models: RunModels):
    with pytest.raises(ConfigError, match="48 features, too few for sets of 49"):
        variants(store, run, lambda: models, CONCEPTS, [49])
    without_tokens = [
        *CONCEPTS,
        Concept(concept="空", forms=[WrittenForm(form="", sentence="a"), WrittenForm(form="a", sentence="a")]),
    ]
    with pytest.raises(ConfigError, match="form '' of concept '空' has no token"):
        variants(store, run, lambda: models, without_tokens, [3])
