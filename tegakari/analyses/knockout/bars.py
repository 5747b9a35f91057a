"""Knockouts as pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from tegakari.analyses.plots import COLORS, new_figure, zero_line
from tegakari.schemas.knockout import KnockoutResult, SmallestSetResult

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def bars(tables: Mapping[str, Sequence[KnockoutResult]]) -> Figure:
    """Points of recall a label, a bar a run, with intervals; crosses are random features, circles those as dense.

    Args:
        tables: run -> one result for each label, the same labels in the same order.
    """
    labels = [_label(result) for result in next(iter(tables.values()))]
    figure, axes = new_figure(max(5.0, 1.6 + 0.35 * len(labels) * len(tables)), 3.6)
    width = 0.8 / len(tables)
    for number, (run, results) in enumerate(tables.items()):
        x = np.arange(len(labels)) + (number - (len(tables) - 1) / 2) * width
        delta = np.array([result.delta for result in results])
        spread = np.array([[row.delta - row.delta_low, row.delta_high - row.delta] for row in results]).T
        axes.bar(x, delta, width * 0.9, color=COLORS[number], label=run, yerr=np.maximum(spread, 0), capsize=2)
        for control, marker in (("control", "x"), ("density_control", "o")):
            found = [getattr(result, control) for result in results]
            points = [each.delta_mean if each else np.nan for each in found]
            axes.plot(x, points, marker, color="black", markersize=4, fillstyle="none")
    zero_line(axes)
    axes.set_xticks(np.arange(len(labels)), labels, rotation=45, ha="right", rotation_mode="anchor")
    axes.set_ylabel("points of recall")
    axes.legend(loc="best")
    return figure


def curve(results: Sequence[KnockoutResult], *, over: str) -> Figure:
    """Recall against the number of features (`k`) or the `layer`, with its interval; dashed: before."""
    x = [len(row.features) if over == "k" else row.settings.layer for row in results]
    figure, axes = new_figure(5, 3.4)
    before = results[0].recall_before
    low, high = ([before + getattr(row, end) / 100 for row in results] for end in ("delta_low", "delta_high"))
    axes.fill_between(x, low, high, color=COLORS[0], alpha=0.2, linewidth=0)
    axes.plot(x, [row.recall_after for row in results], "o-", color=COLORS[0], markersize=3, label="label's features")
    for control, name, style in (("control", "random", ":"), ("density_control", "random, as dense", "-.")):
        found = [getattr(row, control) for row in results]
        if all(found):
            axes.plot(x, [before + each.delta_mean / 100 for each in found], style, color="black", label=name)
    axes.axhline(before, color="#999999", linestyle="--", linewidth=0.8)
    axes.set_ylim(-0.03, 1.03)
    axes.set_xlabel("features taken out" if over == "k" else "layer")
    if over == "k":
        axes.set_xscale("symlog", linthresh=10)
        axes.set_xticks(x, [str(each) for each in x])
    else:
        axes.set_xticks(x)
    axes.set_ylabel("recall")
    axes.set_title(f"{_label(results[0])}, {results[0].run}")
    axes.legend(loc="best")
    return figure


def steps(result: SmallestSetResult) -> Figure:
    """Recall as features are taken out greedily and by d; dashed: what was to be come down to."""
    figure, axes = new_figure(5, 3.4)
    greedy = [result.recall_before, *(step.recall for step in result.steps)]
    by_d = [result.recall_before, *result.recalls_by_d]
    axes.step(range(len(by_d)), by_d, where="post", color="#999999", label="by d")
    axes.step(range(len(greedy)), greedy, where="post", color=COLORS[0], label="greedy")
    axes.axhline(result.target, color="#999999", linestyle="--", linewidth=0.8)
    axes.set_ylim(-0.03, 1.03)
    axes.set_xlabel("features taken out")
    axes.set_ylabel("recall")
    axes.set_title(f"{result.settings.label}, layer {result.settings.layer}, {result.run}")
    axes.legend(loc="best")
    return figure


def _label(result: KnockoutResult) -> str:
    return result.settings.label or result.settings.documents_of or "documents"
