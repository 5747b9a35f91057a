"""Attributions and lift find the clues planted in the demo."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from tegakari.analyses.attribution.compute import attribution
from tegakari.analyses.attribution.settings import attribution_input
from tegakari.analyses.engine.run_models import load_run_models
from tegakari.demo.communities import COMMUNITIES, shared_by
from tegakari.schemas.attribution import AttributionSettings
from tegakari.store import Run, Store, queries

DEMO_STORE = os.environ.get("TEGAKARI_DEMO_STORE", "")
"""Store of a finished demo (`make demo-index`)."""

pytestmark = pytest.mark.skipif(not DEMO_STORE, reason="needs a trained demo: TEGAKARI_DEMO_STORE")

DOCUMENTS = 24
CLUES = {
    community.label: [form for concept in (*community.unique, *shared_by(community.label)) for form in concept.forms]
    for community in COMMUNITIES
}
"""Label -> words planted for it."""


@pytest.fixture(scope="module", params=["demo-jpn", "demo-base"])
def run(request: pytest.FixtureRequest) -> Run:
    return Store(Path(DEMO_STORE)).run(request.param)


def is_part_of_clue(token: str, label: str) -> bool:
    return any(
        token == form or (len(token) > 1 and token in form) or (len(form) > 1 and form in token)
        for form in CLUES[label]
    )


def test_the_strongest_token_of_a_post_is_part_of_a_planted_clue(run: Run):
    models = load_run_models(run, "cpu")
    posts = [
        row
        for row in queries.documents(run, correct=True, limit=1000).items
        if any(clue in queries.document(run, row.document).text for clue in CLUES[row.label])
    ]
    strongest, by_chance, lost, lost_by_others = [], [], [], []
    for number in np.random.default_rng(0).permutation(len(posts))[:DOCUMENTS]:
        post = posts[number]
        settings = AttributionSettings(document=post.document)
        result = attribution(models, run, attribution_input(run, settings))
        clues = [is_part_of_clue(token.token.strip(), post.label) for token in result.tokens]
        strongest.append(clues[np.argmax([token.strength for token in result.tokens])])
        by_chance.append(np.mean(clues))
        lost.append(result.features[0].margin_lost)
        assert result.control
        lost_by_others.append(result.control.single_mean)
    assert np.mean(strongest) > 2.5 * np.mean(by_chance)
    assert np.mean(strongest) > 0.5
    assert np.mean(lost) > 5 * np.mean(lost_by_others)


def test_tokens_by_lift_name_planted_clues_where_the_strongest_ones_do_not(run: Run):
    by_lift, strongest = [], []
    for label in run.labels:
        for row in queries.label_features(run, label, layer=3, limit=5, onset=True).items:
            assert row.lift_tokens
            by_lift.append(np.mean([is_part_of_clue(token, label) for token in row.lift_tokens]))
            strongest.append(np.mean([is_part_of_clue(token.strip(), label) for token in row.top_tokens]))
    assert np.mean(by_lift) > 0.4
    assert np.mean(by_lift) > 3 * np.mean(strongest)
