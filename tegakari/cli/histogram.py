"""`tegakari histogram`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from tegakari.cli.options import (
    CsvOption,
    FeatureOption,
    JsonOption,
    PlotOption,
    RunOption,
    StoreOption,
    open_source,
    parse_feature,
)
from tegakari.cli.output import print_json, print_table, print_written, write_csv
from tegakari.extras import extras_named
from tegakari.schemas.api import ActivationHistogram

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BAR_CELLS = 30
"""Length of the longest bar on the screen."""


class HistogramBin(msgspec.Struct, frozen=True, kw_only=True):
    """Documents whose activation of a feature lies in one bin."""

    low: float
    high: float
    documents: int


def histogram(
    run: RunOption,
    feature: FeatureOption,
    store: StoreOption = None,
    plot: PlotOption = None,
    csv: CsvOption = None,
    json: JsonOption = False,
) -> None:
    """Show how the activations of a feature are distributed over the documents in which it is active.

    Example: [bold]tegakari histogram --run demo-jpn --feature 2:2[/]
    """
    layer, number = parse_feature(feature)
    result = open_source(store).feature_histogram(run, layer, number)
    bins = [
        HistogramBin(low=low, high=high, documents=count)
        for low, high, count in zip(result.edges, result.edges[1:], result.counts, strict=False)
    ]
    if plot:
        with extras_named("study"):
            from tegakari.analyses.svg import save_svg
        save_svg(_figure(result), plot)
        print_written(plot)
    if csv:
        write_csv(csv, bins)
    if json:
        print_json(result)
        return
    largest = max(result.counts, default=0) or 1
    print_table(
        f"Feature {number} of layer {layer} in {run}: active in {result.documents:,} documents, "
        f"pooling {result.pooling}",
        ("activation", "documents", "share of the largest bin"),
        [
            (f"{bin_.low:.3f} to {bin_.high:.3f}", bin_.documents, "█" * round(BAR_CELLS * bin_.documents / largest))
            for bin_ in bins
        ],
    )


def _figure(result: ActivationHistogram) -> Figure:
    """Documents per bin."""
    from tegakari.analyses.svg import new_figure

    figure, axes = new_figure(5, 3)
    axes.stairs(result.counts, result.edges, fill=True)
    axes.set_xlabel(f"activation of feature {result.feature} of layer {result.layer}, pooling {result.pooling}")
    axes.set_ylabel("documents")
    return figure
