"""Survival of written variants: by hand, against a plain encoder, and errors in a file of concepts."""

from __future__ import annotations

import json
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest

from tegakari.analyses.engine.run_models import RunModels
from tegakari.analyses.variants import read_concepts, variants
from tegakari.analyses.variants.survival import TextPairs, group_means, pairs_across, pairs_within, survivals
from tegakari.schemas.analysis_kinds import VARIANTS_ANALYSIS
from tegakari.schemas.errors import ConfigError
from tegakari.schemas.tables import VARIANTS
from tegakari.schemas.variants import Concept, WrittenForm
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

    def never() -> RunModels:
        raise AssertionError("it is stored")

    assert variants(store, run, never, CONCEPTS, [5, 3, 3], unrelated=12) == result
    analysis = find_analysis(store, VARIANTS_ANALYSIS, [run.manifest], result.settings)
    assert analysis
    assert analysis.table(VARIANTS).num_rows == 6 * len(run.manifest.saes.layers)


def test_the_package_has_fifty_concepts(models: RunModels):
    concepts = read_concepts()
    assert len(concepts) == 50
    assert all(3 <= len(item.forms) <= 5 and item.frame for item in concepts)
    sentences = [form.sentence for item in concepts for form in item.forms]
    assert len(set(sentences)) == len(sentences)
    forms = [form.form for item in concepts for form in item.forms]
    assert len(set(forms)) == len(forms)


GOOD = {"concept": "会議", "forms": [{"form": "会議", "sentence": "会議です"}, {"form": "MTG", "sentence": "MTGです"}]}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "truncated"),
        ("[]", "object"),
        ('{"concepts": []}', "no concepts"),
        ({"concepts": [GOOD, GOOD]}, "'会議' occurs twice"),
        ({"concepts": [{**GOOD, "forms": GOOD["forms"][:1]}]}, "'会議' has 1 form"),
        ({"concepts": [{**GOOD, "forms": [GOOD["forms"][0]] * 2}]}, "form '会議' of concept '会議' occurs twice"),
        (
            {"concepts": [{**GOOD, "forms": [GOOD["forms"][0], {"form": "MTG", "sentence": "会"}]}]},
            "form 'MTG' of concept '会議' does not contain it",
        ),
        ({"concepts": [{**GOOD, "forms": [{"form": "", "sentence": "会"}]}]}, r"forms\[0\].form"),
        ({"concepts": [{**GOOD, "frame": "明日です"}]}, "frame of concept '会議'"),
        ({"concepts": [{**GOOD, "more": 1}]}, "unknown field"),
    ],
)
def test_a_wrong_file_is_refused(content: object, words: str, tmp_path: Path):
    path = tmp_path / "concepts.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    with pytest.raises(ConfigError, match=words):
        read_concepts(path)


def test_a_missing_file_is_refused(tmp_path: Path):
    with pytest.raises(ConfigError, match="cannot read"):
        read_concepts(tmp_path / "none.json")


def test_too_large_k_and_forms_without_tokens_are_refused(store: Path, run: Run, models: RunModels):
    with pytest.raises(ConfigError, match="48 features, not 49"):
        variants(store, run, lambda: models, CONCEPTS, [49])
    without_tokens = [
        *CONCEPTS,
        Concept(concept="空", forms=[WrittenForm(form="", sentence="a"), WrittenForm(form="a", sentence="a")]),
    ]
    with pytest.raises(ConfigError, match="form '' of concept '空' has no token"):
        variants(store, run, lambda: models, without_tokens, [3])
