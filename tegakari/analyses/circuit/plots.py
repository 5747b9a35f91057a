"""Figure 1 of the study: effects of components, and accuracy with the circuit alone and without it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from tegakari.analyses.svg import COLORS, new_figure
from tegakari.schemas.circuit import CircuitResult, ComponentEffect

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_ESTIMATOR = {"robust": "ratio of means", "study": "mean of ratios"}
"""Estimator of the effects, by the membership of the settings."""


def effect_maps(results: Sequence[CircuitResult]) -> Figure:
    """A heat map per run, layer by component, in units of the run's largest effect; beside them bars.

    Effects, dots and totals are those of the membership that the results were computed with.
    """
    layers = max(result.layers for result in results)
    widths = [1.0] * len(results) + [1.8]
    figure, axes = new_figure(
        2.2 * len(results) + 4.2, 1.6 + 0.17 * layers, columns=len(results) + 1, width_ratios=widths
    )
    for run_axes, result in zip(axes, results, strict=False):
        effects = np.array([_effect(component, result) for component in result.components]).reshape(-1, 2)
        in_circuit = np.array([component.in_circuit for component in result.components]).reshape(-1, 2)
        largest = max(float(effects.max()), 1e-12)
        image = run_axes.imshow(np.clip(effects / largest, 0, 1), cmap="Blues", vmin=0, vmax=1, aspect="auto")
        for layer, component in np.argwhere(in_circuit):
            run_axes.plot(component, layer, "o", color=COLORS[1], markersize=3)
        run_axes.set_xticks([0, 1], ["attention", "MLP"])
        run_axes.set_ylabel("layer")
        run_axes.grid(visible=False)
        run_axes.set_title(
            f"{result.run}\n{int(in_circuit.sum())} in the circuit, total {result.total.value:.2f}", fontsize=9
        )
    label = f"{_ESTIMATOR[results[0].settings.membership]} / largest"
    figure.colorbar(image, ax=list(axes[:-1]), shrink=0.6, label=label)  # pyright: ignore
    _sufficiency_bars(axes[-1], results)
    return figure


def _effect(component: ComponentEffect, result: CircuitResult) -> float:
    """Effect by the estimator that decides about membership."""
    return (component.effect if result.settings.membership == "robust" else component.study_effect).value


def _sufficiency_bars(axes: Axes, results: Sequence[CircuitResult]) -> None:
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
    axes.set_ylim(0, 1.35)
    axes.set_title("mean ablation", fontsize=9)
    axes.legend(loc="upper right", fontsize=7)
