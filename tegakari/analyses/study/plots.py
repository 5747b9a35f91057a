"""Figure 2 of the study: diversity of the cues of labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tegakari.analyses.svg import COLORS, new_figure
from tegakari.schemas.study import RunStudy

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def cue_scatter(runs: Sequence[RunStudy]) -> Figure:
    """A point per label and run: number of unique tokens (y) against the share of the most frequent token (x)."""
    figure, axes = new_figure(6, 4.2)
    for number, run in enumerate(runs):
        x = [cues.top_token_share.value for cues in run.cues]
        y = [cues.unique_tokens.value for cues in run.cues]
        marker, color = "os^D"[number % 4], COLORS[number % len(COLORS)]
        axes.plot(x, y, marker, color=color, label=run.run, linestyle="none", markersize=5)
        for cues, point in zip(run.cues, zip(x, y, strict=True), strict=True):
            axes.annotate(cues.label, point, xytext=(4, 2), textcoords="offset points", fontsize=6.5)
    axes.set_xlabel("top token share")
    axes.set_ylabel("unique tokens")
    axes.set_xlim(left=0)
    axes.legend(loc="best")
    return figure
