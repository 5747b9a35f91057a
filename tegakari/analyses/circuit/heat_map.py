"""Figure 1 of the study: where the effect lies, and what is left with and without the circuit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from tegakari.analyses.plots import COLORS, new_figure
from tegakari.schemas.circuit import CircuitResult

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def figure(results: Sequence[CircuitResult]) -> Figure:
    """A heat map a run, layer by component, each run normalised by its own largest effect; beside them bars."""
    layers = max(result.layers for result in results)
    widths = [1.0] * len(results) + [1.8]
    drawn, axes = new_figure(
        2.2 * len(results) + 4.2, 1.6 + 0.17 * layers, columns=len(results) + 1, width_ratios=widths
    )
    for place, result in zip(axes, results, strict=False):
        effects = np.array([each.effect.value for each in result.components]).reshape(-1, 2)
        chosen = np.array([each.in_circuit for each in result.components]).reshape(-1, 2)
        largest = max(float(effects.max()), 1e-12)
        image = place.imshow(np.clip(effects / largest, 0, 1), cmap="Blues", vmin=0, vmax=1, aspect="auto")
        for layer, component in np.argwhere(chosen):
            place.plot(component, layer, "o", color=COLORS[1], markersize=3)
        place.set_xticks([0, 1], ["attention", "MLP"])
        place.set_ylabel("layer")
        place.grid(visible=False)
        place.set_title(f"{result.run}\n{int(chosen.sum())} in the circuit, total {result.total.value:.2f}", fontsize=9)
    drawn.colorbar(image, ax=list(axes[:-1]), shrink=0.6, label="effect / largest")  # pyright: ignore
    _bars(axes[-1], results)
    return drawn


def _bars(place: Axes, results: Sequence[CircuitResult]) -> None:
    names = ["sufficiency", "necessity"]
    width = 0.8 / len(results)
    for number, result in enumerate(results):
        by_mean = result.ablated[0]
        found = [by_mean.sufficiency, by_mean.necessity]
        x = np.arange(2) + (number - (len(results) - 1) / 2) * width
        values = np.array([each.value if each else np.nan for each in found])
        spread = np.array([[each.value - each.low, each.high - each.value] if each else [0, 0] for each in found]).T
        place.bar(x, values, 0.9 * width, color=COLORS[number], label=result.run, yerr=np.maximum(spread, 0), capsize=2)
    place.set_xticks([0, 1], names)
    place.set_ylim(0, 1.35)
    place.set_title("ablation by the mean", fontsize=9)
    place.legend(loc="upper right", fontsize=7)
