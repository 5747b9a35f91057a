"""Figure 1 of the study: effects of components, and accuracy with the circuit alone and without it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from tegakari.analyses.formatting import decimal
from tegakari.analyses.svg import COLORS, legend_below, new_figure
from tegakari.schemas.circuit import CircuitResult, ComponentEffect

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_ESTIMATOR = {"robust": "ratio of means", "study": "mean of ratios"}
"""Estimator of the effects, by the membership of the settings."""

SMALLEST_UNIT = 1e-12
"""Stands for the largest effect where none is positive."""

DARK = 0.6
"""Share of the scale above which a cell is dark."""


def effect_maps(results: Sequence[CircuitResult], *, own_scale: bool = False) -> Figure:
    """A heat map per run, layer by component, with the effects in their cells; beside them bars.

    Effects, stars and totals are those of the membership that the results were computed with. Negative effects have the
    color of 0.

    Args:
        results: one per run.
        own_scale: whether effects are in units of the run's largest one, as in the study; else all runs have one
            scale.
    """
    layers = max(result.layers for result in results)
    widths = [1.0] * len(results) + [1.4]
    figure, axes = new_figure(
        2.4 * len(results) + 3.8, 1.8 + 0.19 * layers, columns=len(results) + 1, width_ratios=widths
    )
    effects = [np.array([_effect(row, result) for row in result.components]).reshape(-1, 2) for result in results]
    units = [max(float(of_run.max()), SMALLEST_UNIT) if own_scale else 1.0 for of_run in effects]
    shades = [of_run / unit for of_run, unit in zip(effects, units, strict=True)]
    top = max(SMALLEST_UNIT, *(float(of_run.max()) for of_run in shades))
    for run_axes, result, shade in zip(axes, results, shades, strict=False):
        in_circuit = np.array([component.in_circuit for component in result.components]).reshape(-1, 2)
        image = run_axes.imshow(np.clip(shade, 0, top), cmap="Blues", vmin=0, vmax=top, aspect="auto")
        for layer, component in np.ndindex(shade.shape):
            member = in_circuit[layer, component]
            run_axes.text(
                component,
                layer,
                decimal(float(shade[layer, component]), 2) + (" *" if member else ""),
                ha="center",
                va="center",
                fontsize=7,
                fontweight="bold" if member else "normal",
                color="white" if shade[layer, component] > DARK * top else "black",
            )
        run_axes.set_xticks([0, 1], ["attention", "MLP"])
        run_axes.set_yticks(range(0, result.layers, 1 + result.layers // 30))
        run_axes.set_ylabel("layer")
        run_axes.grid(visible=False)
        run_axes.set_title(
            f"{result.run}\n{int(in_circuit.sum())} in the circuit, total {decimal(result.total.value, 2)}", fontsize=9
        )
    label = _ESTIMATOR[results[0].settings.membership] + (" / largest of the run" if own_scale else "")
    figure.colorbar(image, ax=list(axes[:-1]), shrink=0.8, label=label)  # pyright: ignore
    _sufficiency_bars(figure, axes[-1], results)
    return figure


def _effect(component: ComponentEffect, result: CircuitResult) -> float:
    """Effect by the estimator that decides about membership."""
    return (component.effect if result.settings.membership == "robust" else component.study_effect).value


def _sufficiency_bars(figure: Figure, axes: Axes, results: Sequence[CircuitResult]) -> None:
    width = 0.8 / len(results)
    for number, result in enumerate(results):
        by_mean = result.ablated[0]
        intervals = [by_mean.sufficiency, by_mean.necessity]
        x = np.arange(2) + (number - (len(results) - 1) / 2) * width
        values = np.array([interval.value if interval else np.nan for interval in intervals])
        errors = np.array(
            [
                [interval.value - interval.low, interval.high - interval.value] if interval else [0, 0]
                for interval in intervals
            ]
        ).T
        axes.bar(
            x,
            values,
            0.9 * width,
            color=COLORS[number % len(COLORS)],
            label=result.run,
            yerr=np.maximum(errors, 0),
            capsize=2,
        )
    axes.set_xticks([0, 1], ["sufficiency", "necessity"])
    axes.axhline(0, color="#999999", linewidth=0.8)
    axes.set_title("mean ablation", fontsize=9)
    legend_below(figure, axes)
