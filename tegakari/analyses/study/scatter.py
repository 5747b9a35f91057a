"""Figure 2 of the study: how various the cues of labels are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tegakari.analyses.plots import COLORS, new_figure
from tegakari.schemas.study import RunStudy

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def cues(runs: Sequence[RunStudy]) -> Figure:
    """A point a label and run: unique tokens against the share of the most frequent one."""
    figure, axes = new_figure(6, 4.2)
    for number, run in enumerate(runs):
        x = [each.unique_tokens.value for each in run.cues]
        y = [each.top_token_share.value for each in run.cues]
        axes.plot(x, y, "os^D"[number], color=COLORS[number], label=run.run, linestyle="none", markersize=5)
        for each, across, up in zip(run.cues, x, y, strict=True):
            axes.annotate(each.label, (across, up), xytext=(4, 2), textcoords="offset points", fontsize=6.5)
    axes.set_xlabel("unique tokens")
    axes.set_ylabel("top token share")
    axes.set_ylim(bottom=0)
    axes.legend(loc="best")
    return figure
