"""`tegakari knockout table`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from tegakari.cli.knockout.display import print_knockouts, print_side_by_side, write_csv, write_figure
from tegakari.cli.knockout.shared_options import CsvOption, PlotOption, knockout_options, knockout_settings
from tegakari.cli.options import (
    DeviceOption,
    JsonOption,
    RunsOption,
    StoreDirectoryOption,
    open_runs,
    split_names,
    store_directory,
)
from tegakari.cli.output import print_json, progress
from tegakari.extras import needs_extra
from tegakari.schemas.errors import ConfigError
from tegakari.schemas.knockout import KnockoutResult


@needs_extra("study")
@knockout_options()
def table(
    runs: RunsOption,
    labels: Annotated[str | None, typer.Option(help="Labels, separated by commas; default: all of the runs.")] = None,
    layer: Annotated[int | None, typer.Option(help="Layer, from 0.")] = None,
    layer_of_largest_effect: Annotated[
        bool, typer.Option("--layer-of-largest-effect", help="Per run and label, the layer that costs most recall.")
    ] = False,
    *,
    settings: dict[str, Any],
    csv: CsvOption = None,
    plot: PlotOption = None,
    device: DeviceOption = "auto",
    store: StoreDirectoryOption = None,
    json: JsonOption = False,
) -> None:
    """Ablate the features of many labels, in one run or in several side by side.

    The same command resumes a killed table.

    Example: [bold]tegakari knockout table --runs demo-jpn,demo-base --labels 旅行,園芸 --layer-of-largest-effect[/]
    """
    from tegakari.analyses.engine.run_models import model_loader
    from tegakari.analyses.knockout.plots import label_bars
    from tegakari.analyses.knockout.sweeps import over_labels

    if (layer is None) != layer_of_largest_effect:
        raise ConfigError(
            "give either a layer or --layer-of-largest-effect", field="--layer", fix="the study reports the latter"
        )
    request = knockout_settings(settings, layer=layer)
    directory, opened = store_directory(store), open_runs(runs, store)
    shared = [label for label in opened[0].labels if all(label in run.labels for run in opened)]
    names = split_names(labels) if labels is not None else shared
    results: dict[str, list[KnockoutResult]] = {}
    with progress() as bars:
        for run in opened:
            results[run.name] = over_labels(directory, run, model_loader(run, device), names, request, progress=bars)
    rows = [result for of_run in results.values() for result in of_run]
    write_csv(csv, rows)
    if plot:
        write_figure(plot, label_bars(results))
    if json:
        print_json(rows)
    elif len(results) > 1:
        print_side_by_side(results)
    else:
        print_knockouts(f"Recall without a label's features, {runs}", rows)
