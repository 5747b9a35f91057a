"""Cues agree with plain Python on the top tokens of a run."""

from __future__ import annotations

import unicodedata
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from tegakari.analyses.cues import feature_cues, label_cues, normalised
from tegakari.schemas.errors import NotFoundError
from tegakari.store import Run
from tests.support.factories import Case


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
        assert [cues.cohens_d for cues in result.features] == sorted(
            (cues.cohens_d for cues in result.features), reverse=True
        )
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
