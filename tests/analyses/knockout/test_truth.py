"""Short simulations of what knockouts state: `make bench-truth` has them in full."""

from __future__ import annotations

from benchmarks.truth.knockouts import means, net_effects, no_effect, points_lost


def test_intervals_of_points_lost_cover_them():
    covered = {row.case: row.value for row in points_lost(150) if row.at_least is not None}
    assert len(covered) == 15
    assert min(covered.values()) > 0.87


def test_intervals_of_net_effects_cover_them():
    assert min(row.value for row in net_effects(30)) > 0.8


def test_intervals_of_means_cover_them():
    assert min(row.value for row in means(300)) > 0.82


def test_features_without_effect_are_rarely_beyond_their_control():
    rows = no_effect(8)
    beyond = [row.value for row in rows if row.figure == "beyond control without effect"]
    assert len(beyond) == 9
    assert max(beyond) < 0.08
    assert sum(beyond) / len(beyond) < 0.03
    assert max(row.value for row in rows if row.figure == "mean shown without effect") <= 1 / 8
