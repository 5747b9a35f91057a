"""Figures of knockouts: bars per label, recall over layers or numbers of features, steps of a greedy search."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from tegakari.analyses.svg import COLORS, new_figure, zero_line
from tegakari.schemas.knockout import KnockoutResult, SmallestSetResult

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


PALE = 0.35
"""Opacity of a bar whose effect is not beyond its control."""


def label_bars(results_by_run: Mapping[str, Sequence[KnockoutResult]]) -> Figure:
    """Change of recall per label, in points: a bar with its 95 % interval per run, pale if not beyond its control.

    Crosses are the control of random features, circles that of random features of the same density.

    Args:
        results_by_run: run -> one result per label, the same labels in the same order.
    """
    labels = [_label(result) for result in next(iter(results_by_run.values()))]
    figure, axes = new_figure(max(5.0, 1.6 + 0.35 * len(labels) * len(results_by_run)), 3.6)
    width = 0.8 / len(results_by_run)
    for number, (run, results) in enumerate(results_by_run.items()):
        x = np.arange(len(labels)) + (number - (len(results_by_run) - 1) / 2) * width
        delta = np.array([result.delta for result in results])
        errors = np.array([[row.delta - row.delta_low, row.delta_high - row.delta] for row in results]).T
        bars = axes.bar(
            x, delta, width * 0.9, color=COLORS[number % len(COLORS)], label=run, yerr=np.maximum(errors, 0), capsize=2
        )
        for bar, result in zip(bars, results, strict=True):
            bar.set_alpha(PALE if result.beyond_control is False else 1.0)
        for field, marker in (("control", "x"), ("density_control", "o")):
            controls = [getattr(result, field) for result in results]
            points = [control.delta_mean if control else np.nan for control in controls]
            axes.plot(x, points, marker, color="black", markersize=4, fillstyle="none")
    zero_line(axes)
    axes.set_xticks(np.arange(len(labels)), labels, rotation=45, ha="right", rotation_mode="anchor")
    axes.set_ylabel("change of recall (points)")
    for handle in axes.legend(loc="best").legend_handles:
        if handle:
            handle.set_alpha(1.0)
    return figure


def recall_curve(results: Sequence[KnockoutResult], *, over: str) -> Figure:
    """Recall against the number of ablated features (`k`) or the `layer`, with its 95 % interval; dashed: before."""
    x = [len(row.features) if over == "k" else row.settings.layer for row in results]
    figure, axes = new_figure(5, 3.4)
    before = results[0].recall_before
    low, high = ([before + getattr(row, end) / 100 for row in results] for end in ("delta_low", "delta_high"))
    axes.fill_between(x, low, high, color=COLORS[0], alpha=0.2, linewidth=0)
    axes.plot(x, [row.recall_after for row in results], "o-", color=COLORS[0], markersize=3, label="label's features")
    for field, name, style in (("control", "random", ":"), ("density_control", "random, same density", "-.")):
        controls = [getattr(row, field) for row in results]
        if all(controls):
            recalls = [before + control.delta_mean / 100 for control in controls]
            axes.plot(x, recalls, style, color="black", label=name)
    axes.axhline(before, color="#999999", linestyle="--", linewidth=0.8)
    axes.set_xlabel("ablated features" if over == "k" else "layer")
    if over == "k":
        axes.set_xscale("symlog", linthresh=10)
        axes.set_xticks(x, [str(k) for k in x])
    else:
        axes.set_xticks(x)
    _label_recall(axes)
    axes.set_title(f"{_label(results[0])}, {results[0].run}")
    return figure


def greedy_steps(result: SmallestSetResult) -> Figure:
    """Recall as features are ablated in the order of the greedy search and in that of d; dashed: the target."""
    figure, axes = new_figure(5, 3.4)
    greedy = [result.recall_before, *(step.recall for step in result.steps)]
    by_d = [result.recall_before, *result.recalls_by_d]
    axes.step(range(len(by_d)), by_d, where="post", color="#999999", label="by d")
    axes.step(range(len(greedy)), greedy, where="post", color=COLORS[0], label="greedy")
    axes.axhline(result.target, color="#999999", linestyle="--", linewidth=0.8)
    axes.set_xlabel("ablated features")
    _label_recall(axes)
    axes.set_title(f"{result.settings.label}, layer {result.settings.layer}, {result.run}")
    return figure


def _label_recall(axes: Axes) -> None:
    axes.set_ylim(-0.03, 1.03)
    axes.set_ylabel("recall")
    axes.legend(loc="best")


def _label(result: KnockoutResult) -> str:
    return result.settings.label or result.settings.documents_of or "documents"
