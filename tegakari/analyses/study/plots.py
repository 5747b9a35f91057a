"""Figure 2 of the study: diversity of the cues of labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tegakari.analyses.study.label_places import Box, label_places
from tegakari.analyses.svg import COLORS, legend_below, new_figure, text_width
from tegakari.schemas.study import RunStudy

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LABEL_SIZE = 7.0
"""Size of the names of labels, in points."""

_MARK_SIZE = 5.0
_FAR = 6.0
"""Distance of a name from its point from which a line joins them, in points."""


def cue_scatter(runs: Sequence[RunStudy]) -> Figure:
    """A point per label and run: number of unique tokens (y) against the share of the most frequent token (x).

    Each point has the name of its label beside it, where it covers nothing; a label without room has none.
    """
    labels = max((len(run.cues) for run in runs), default=0)
    figure, axes = new_figure(6.5, 4.2 + 0.04 * labels * len(runs))
    for number, run in enumerate(runs):
        x = [cues.top_token_share.value for cues in run.cues]
        y = [cues.unique_tokens.value for cues in run.cues]
        marker, color = "os^D"[number % 4], COLORS[number % len(COLORS)]
        axes.plot(x, y, marker, color=color, label=run.run, linestyle="none", markersize=_MARK_SIZE)
    axes.set_xlabel("top token share")
    axes.set_ylabel("unique tokens")
    axes.set_xlim(left=0)
    axes.margins(0.08)
    legend_below(figure, axes)
    _name_points(figure, axes, runs)
    return figure


def _name_points(figure: Figure, axes: Axes, runs: Sequence[RunStudy]) -> None:
    figure.draw_without_rendering()  # the layout decides where the points are
    figure.set_layout_engine("none")
    scale = 72 / figure.dpi
    named = [
        (cues.label, COLORS[number % len(COLORS)], (cues.top_token_share.value, cues.unique_tokens.value))
        for number, run in enumerate(runs)
        for cues in run.cues
    ]
    points = [tuple((axes.transData.transform(point) * scale).tolist()) for _, _, point in named]
    sizes = [(text_width(label, LABEL_SIZE), 1.3 * LABEL_SIZE) for label, _, _ in named]
    frame = axes.get_window_extent()
    bounds = Box(*(float(end) * scale for end in (frame.x0, frame.y0, frame.x1, frame.y1)))
    places = label_places(points, sizes, bounds, _MARK_SIZE / 2)
    for (label, color, point), (x, y), place in zip(named, points, places, strict=True):
        if place is None:
            continue
        middle = ((place.left + place.right) / 2 - x, (place.bottom + place.top) / 2 - y)
        nearest = (min(max(x, place.left), place.right) - x, min(max(y, place.bottom), place.top) - y)
        axes.annotate(
            label,
            point,
            xytext=middle,
            textcoords="offset points",
            fontsize=LABEL_SIZE,
            color=color,
            ha="center",
            va="center",
            arrowprops={"arrowstyle": "-", "color": "#aaaaaa", "linewidth": 0.5}
            if max(map(abs, nearest)) > _FAR
            else None,
        )
