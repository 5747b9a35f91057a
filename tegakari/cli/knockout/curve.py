"""`tegakari knockout curve`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from tegakari.cli.knockout.display import print_knockouts, write_figure, write_knockouts
from tegakari.cli.knockout.shared_options import knockout_options, knockout_settings
from tegakari.cli.options import (
    CsvOption,
    DeviceOption,
    JsonOption,
    LabelOption,
    PlotOption,
    RunOption,
    StoreDirectoryOption,
    open_run,
    store_directory,
)
from tegakari.cli.output import page_of, print_json, progress
from tegakari.extras import needs_extra


@needs_extra("study")
@knockout_options()
def curve(
    run: RunOption,
    label: LabelOption,
    layer: Annotated[
        int | None, typer.Option(help="Recall against k = 1 to 200 in this layer; without it: against every layer.")
    ] = None,
    *,
    settings: dict[str, Any],
    device: DeviceOption = "auto",
    store: StoreDirectoryOption = None,
    plot: PlotOption = None,
    csv: CsvOption = None,
    json: JsonOption = False,
) -> None:
    """Plot the recall of a label against the number of its ablated features, or against the layer.

    Example: [bold]tegakari knockout curve --run demo-jpn --label 自動車 --layer 2 --plot curve.svg[/]
    """
    from tegakari.analyses.engine.model_loader import model_loader
    from tegakari.analyses.knockout.plots import recall_curve
    from tegakari.analyses.knockout.sweeps import over_k, over_layers

    request = knockout_settings(settings, label=label, layer=layer)
    directory, opened = store_directory(store), open_run(run, store)
    load = model_loader(opened, device)
    with progress() as bars:
        if layer is None:
            (results,) = over_layers(directory, opened, load, [request], progress=bars)
        else:
            results = over_k(directory, opened, load, request, progress=bars)
    write_knockouts(csv, results)
    if plot:
        write_figure(plot, recall_curve(results, over="layer" if layer is None else "k"))
    if json:
        print_json(page_of(results))
    else:
        print_knockouts(f"Recall of {label} in {run}", results)
