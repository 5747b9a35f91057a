"""Figures of knockouts: bars per label, recall over layers or numbers of features, steps of a greedy search."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tegakari.analyses.svg import COLORS, legend_below, new_figure, zero_line
from tegakari.schemas.knockout import KnockoutResult, SmallestSetResult

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


PALE = 0.35
"""Opacity of a bar whose effect is not beyond its control."""

TICK_GAP = 0.07
"""Least distance of two labels of an axis, as a share of its length: three digits need it."""


def label_bars(results_by_run: Mapping[str, Sequence[KnockoutResult]]) -> Figure:
    """Change of recall per label, in points: a bar with its 95 % interval per run, pale if not beyond its control.

    Crosses are the control of random features, circles that of random features of the same density. Labels stand below
    each other, so that any number of them can be read.

    Args:
        results_by_run: run -> one result per label, the same labels in the same order.
    """
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    labels = [_label(result) for result in next(iter(results_by_run.values()))]
    figure, axes = new_figure(6.5, 1.1 + (0.1 + 0.15 * len(results_by_run)) * max(len(labels), 2))
    height = 0.8 / len(results_by_run)
    handles: list[Any] = []
    for number, (run, results) in enumerate(results_by_run.items()):
        y = np.arange(len(labels)) + (number - (len(results_by_run) - 1) / 2) * height
        delta = np.array([result.delta for result in results])
        errors = np.array([[row.delta - row.delta_low, row.delta_high - row.delta] for row in results]).T
        color = COLORS[number % len(COLORS)]
        errors = np.maximum(errors, 0)
        for bar, result in zip(
            axes.barh(y, delta, height * 0.9, color=color, xerr=errors, capsize=2), results, strict=True
        ):
            bar.set_alpha(PALE if result.beyond_control is False else 1.0)
        handles.append(Patch(color=color, label=run))
        for field, marker in (("control", "x"), ("density_control", "o")):
            controls = [getattr(result, field) for result in results]
            points = [control.delta_mean if control else np.nan for control in controls]
            axes.plot(points, y, marker, color="black", markersize=4, fillstyle="none")
    for marker, name in (("x", "random features"), ("o", "random features of the same density")):
        handles.append(Line2D([], [], marker=marker, color="black", linestyle="none", fillstyle="none", label=name))
    zero_line(axes)
    axes.set_yticks(np.arange(len(labels)), labels)
    axes.set_ylim(len(labels) - 0.4, -0.6)
    axes.set_xlabel("change of recall (points)")
    legend_below(figure, axes, handles)
    return figure


def recall_curve(results: Sequence[KnockoutResult], *, over: str) -> Figure:
    """Recall against the number of ablated features (`k`) or the `layer`, with its 95 % interval; dashed: before."""
    from matplotlib.ticker import NullLocator

    x = [len(row.features) if over == "k" else row.settings.layer or 0 for row in results]
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
        axes.set_xscale("log" if min(x) > 0 else "symlog")
        axes.xaxis.set_minor_locator(NullLocator())  # its labels would stand between those of the curve
    ticks = readable_ticks(x, logarithmic=over == "k")
    axes.set_xticks(ticks, [str(tick) for tick in ticks])
    _label_recall(figure, axes)
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
    _label_recall(figure, axes)
    axes.set_title(f"{result.settings.label}, layer {result.settings.layer}, {result.run}")
    return figure


def readable_ticks(values: Sequence[int], *, logarithmic: bool) -> list[int]:
    """Values of an axis that are far enough apart for their labels: the last one, and those below it that fit.

    Args:
        values: in increasing order.
        logarithmic: whether the axis is; 0 stands where 1 does.
    """
    places = np.log(np.maximum(values, 1)) if logarithmic else np.asarray(values, np.float64)
    least = TICK_GAP * max(float(places[-1] - places[0]), 1e-9)
    ticks: list[int] = []
    last = math.inf
    for value, place in zip(reversed(values), reversed(places.tolist()), strict=True):
        if last - place >= least:
            ticks.append(value)
            last = place
    return ticks[::-1]


def _label_recall(figure: Figure, axes: Axes) -> None:
    axes.set_ylim(-0.03, 1.03)
    axes.set_ylabel("recall")
    legend_below(figure, axes)


def _label(result: KnockoutResult) -> str:
    return result.settings.label or result.settings.documents_of or "documents"
