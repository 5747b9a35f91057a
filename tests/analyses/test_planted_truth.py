"""A short form of the simulation of planted clues: `make bench-truth` has it with many seeds."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.truth.planted import PLANTED, RANDOM_HEAD, RANDOM_LABELS, WITH_SINK, Outcome, outcomes


@pytest.fixture(scope="module")
def by_case() -> dict[str, Outcome]:
    return {outcome.case: outcome for outcome in outcomes(0, (WITH_SINK,))}


def test_planted_clues_are_found_and_ablated_beside_a_sink(by_case: dict[str, Outcome]):
    planted = by_case[PLANTED]
    assert sum(planted.found) >= 5
    assert sum(planted.beyond) >= 4
    assert sum(np.add(planted.beyond, planted.by_margin_alone)) >= 5
    assert planted.shown
    assert planted.significant > 20


def test_labels_without_meaning_make_no_headline(by_case: dict[str, Outcome]):
    assert not by_case[RANDOM_LABELS].claims


def test_a_random_head_has_no_mean_of_knockouts(by_case: dict[str, Outcome]):
    assert not by_case[RANDOM_HEAD].shown
    assert by_case[RANDOM_HEAD].significant == by_case[PLANTED].significant
