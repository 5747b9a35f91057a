"""Figures as text, the same in the report and on the command line. Needs the standard library alone."""

from __future__ import annotations

import math
from decimal import ROUND_HALF_UP, Decimal
from typing import TYPE_CHECKING, NamedTuple

from tegakari.analyses.visible_text import visible_token

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tegakari.analyses.knockout.default_label import DefaultLabel
    from tegakari.schemas.analysis import Interval
    from tegakari.schemas.knockout import Control, KnockoutMean, KnockoutResult, SaeQuality
    from tegakari.schemas.matching import MatchingResult
    from tegakari.schemas.study import LabelToken

LABEL_TOKENS = 3
"""Tokens of a label that a table shows."""

MISSING = "-"
"""Stands for a figure that could not be computed."""


_SIGNIFICANT = 12
"""Digits of a float that a figure is rounded from: the others are rounding errors, as in 100 * 0.575."""


def decimal(value: float, digits: int, *, signed: bool = False) -> str:
    """A number with a fixed number of decimals: halves are rounded away from 0, and zero has no minus.

    Python's own formatting rounds the binary value and ties to even: 0.125 to 0.12 and 0.375 to 0.38.

    Args:
        value: the number.
        digits: decimals.
        signed: whether numbers that are not negative have a plus.
    """
    if not math.isfinite(value):
        return str(value)
    rounded = Decimal(f"{value:.{_SIGNIFICANT}g}").quantize(Decimal(1).scaleb(-digits), ROUND_HALF_UP)
    return f"{abs(rounded) if rounded.is_zero() else rounded:{'+' if signed else ''}f}"


def percent(share: float | None, digits: int = 0) -> str:
    """A share as per cent: `34%`; MISSING without one."""
    return MISSING if share is None else f"{decimal(100 * share, digits)}%"


def interval(figure: Interval | None, digits: int = 3) -> str:
    """A figure with its 95 % interval: `0.840 (0.820 to 0.860)`."""
    if figure is None:
        return MISSING
    return _with_ends(figure, digits)


def difference(figure: Interval) -> str:
    """A difference with its 95 % interval, signed: `+0.012 (-0.003 to +0.027)`."""
    return _with_ends(figure, 3, signed=True)


class KnockoutCells(NamedTuple):
    """Cells of a knockout in a table."""

    layer: str
    """layer, or layers, of the ablated features"""
    recall: str
    """recall before and after: `0.93 → 0.35`"""
    points: str
    """change of recall in points, with its 95 % interval: `-58.1 (-63.0 to -52.9)`"""
    net: str
    """points minus those of the control of the same density, with its 95 % interval"""
    margin: str
    """change of the margin minus that of the control of the same density: `-3.19 (-3.69 to -2.70)`"""
    beyond_control: str
    """whether recall is beyond the control, or the margin alone: `yes`, `margin alone`, `no`"""
    random: str
    """mean and standard deviation of the points of random features: `-1.2 ± 0.8`"""
    matched: str
    """the same of random features of about the same density"""


KNOCKOUT_COLUMNS = KnockoutCells(
    "layer",
    "recall",
    "points (95 %)",
    "net (95 %)",
    "margin, net (95 %)",
    "beyond control",
    "random",
    "same density",
)
"""Headings of the cells."""


def knockout_cells(result: KnockoutResult) -> KnockoutCells:
    """A knockout's figures as text."""
    layers = sorted({feature.layer for feature in result.features})
    return KnockoutCells(
        layer=", ".join(map(str, layers)) or str(result.settings.layer),
        recall=f"{decimal(result.recall_before, 2)} → {decimal(result.recall_after, 2)}",
        points=points(recall_points(result)),
        net=points(result.net),
        margin=logits(result.margin.net),
        beyond_control=beyond_control(result),
        random=_control(result.control),
        matched=_control(result.density_control),
    )


def beyond_control(result: KnockoutResult) -> str:
    """Whether a knockout is beyond its control: `yes` by recall, `margin alone`, `no`; MISSING without draws."""
    if result.beyond_control is None:
        return MISSING
    if result.beyond_control:
        return "yes"
    return "margin alone" if result.by_margin_alone else "no"


def points(figure: Interval | None) -> str:
    """Points with their 95 % interval, signed: `-58.1 (-63.0 to -52.9)`."""
    return _with_ends(figure, 1, signed=True) if figure else MISSING


def recall_points(result: KnockoutResult) -> Interval:
    """Change of recall in points, with its 95 % interval."""
    from tegakari.schemas.analysis import Interval

    return Interval(value=result.delta, low=result.delta_low, high=result.delta_high)


def logits(figure: Interval | None) -> str:
    """A change of logits with its 95 % interval, signed: `-3.19 (-3.69 to -2.70)`."""
    return _with_ends(figure, 2, signed=True) if figure else MISSING


def sae_quality(quality: SaeQuality) -> str:
    """Quality of a layer's SAE: `explained variance 0.912 (all positions 0.912), L0 15.2, 34% of 512 features dead`."""
    ordinary, everywhere = (
        MISSING if variance is None else decimal(variance, 3)
        for variance in (quality.explained_variance, quality.explained_variance_all)
    )
    return (
        f"explained variance {ordinary} (all positions {everywhere}), L0 {decimal(quality.l0, 1)}, "
        f"{percent(quality.dead_share)} of {quality.features} features dead"
    )


def knockout_mean_sentence(mean: KnockoutMean) -> str:
    """Means over labels: `15 of 16 labels are beyond their control: -75.0 points (-85.9 to -64.1), net ...`."""
    text = f"{mean.beyond_control} of {mean.labels} labels are beyond their control"
    by_margin = f"; {mean.by_margin_alone} more by their margin alone" if mean.by_margin_alone else ""
    if not mean.shown:
        chance = ", no more than chance may make: no mean of them" if mean.beyond_control else ""
        return f"{text}{chance}{by_margin}; of all labels {points(mean.net_of_all)} net"
    text += f": mean {points(mean.points)} points, {points(mean.net)} net{by_margin}"
    if mean.beyond_control < mean.labels:
        text += f"; of all labels {points(mean.net_of_all)} net"
    return text


def default_label_sentence(default: DefaultLabel) -> str:
    """Why the recall of a label need not fall, and what its margin shows."""
    margin = default.knockout.margin
    shown = "its margin does" if margin.beyond_control else "its margin shows no effect either"
    return (
        f"other labels lose more documents to {default.knockout.settings.label} ({default.taken} of {default.lost}) "
        "than to any other: the classifier tends to predict it where features are missing, so that its recall need not "
        f"fall without its own; {shown}, {logits(margin.net)} logits net of its control"
    )


def label_tokens(tokens: Sequence[LabelToken]) -> str:
    """The first tokens of a label with their numbers of features: `graph (9) node (3)`."""
    return " ".join(f"{visible_token(token.token)} ({token.features})" for token in tokens[:LABEL_TOKENS]) or MISSING


def _with_ends(figure: Interval, digits: int, *, signed: bool = False) -> str:
    value, low, high = (decimal(end, digits, signed=signed) for end in (figure.value, figure.low, figure.high))
    return f"{value} ({low} to {high})"


def _control(control: Control | None) -> str:
    return f"{decimal(control.delta_mean, 1, signed=True)} ± {decimal(control.delta_sd, 1)}" if control else MISSING


def left_out_cosines(matching: MatchingResult) -> list[str]:
    """Sentences about the layers whose decoder directions are not compared, one per reason."""
    if matching.no_cosine:
        return [f"Directions are not compared: {matching.no_cosine}."]
    layers_by_reason: dict[str, list[str]] = {}
    for layer in matching.layers:
        if layer.no_cosine:
            layers_by_reason.setdefault(layer.no_cosine, []).append(str(layer.layer))
    return [
        f"Pairs by cosine are left out in layer {', '.join(layers)}: {reason}."
        for reason, layers in layers_by_reason.items()
    ]
