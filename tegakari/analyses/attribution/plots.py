"""Figure of an attribution: the margin that each feature costs, beside the control."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tegakari.analyses.svg import COLORS, new_figure
from tegakari.schemas.attribution import Attribution

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def margin_bars(attribution: Attribution) -> Figure:
    """Margin lost per feature, each ablated alone, with the token that it rises on; dotted: mean of the control."""
    features = attribution.features
    figure, axes = new_figure(6, 1.2 + 0.22 * len(features))
    y = np.arange(len(features))
    axes.barh(y, [feature.margin_lost for feature in features], color=COLORS[0], height=0.7)
    names = [f"{row.layer}:{row.feature} {row.onset_token.strip() or '⏎'}" for row in features]
    axes.set_yticks(y, names)
    axes.invert_yaxis()
    axes.axvline(0, color="#999999", linewidth=0.8)
    if attribution.control:
        mean = attribution.control.single_mean
        axes.axvline(mean, color="black", linestyle=":", label=f"other active feature, mean of {mean:.2f}")
        axes.legend(loc="lower right")
    axes.set_xlabel(f"margin lost of {attribution.label} ({attribution.margin:.2f} over {attribution.runner_up})")
    return figure
