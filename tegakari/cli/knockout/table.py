"""`tegakari knockout table`."""

from __future__ import annotations

from typing import Any

import msgspec

from tegakari.analyses.formatting import default_label_sentence, knockout_mean_sentence
from tegakari.cli.knockout.display import (
    print_choice,
    print_knockouts,
    print_side_by_side,
    write_figure,
    write_knockouts,
)
from tegakari.cli.knockout.shared_options import knockout_options, knockout_settings
from tegakari.cli.layer_selection import LayerSelectionOption, read_layer_selection
from tegakari.cli.options import (
    CsvOption,
    DeviceOption,
    JsonOption,
    LabelsOption,
    PlotOption,
    RunsOption,
    StoreDirectoryOption,
    open_runs,
    store_directory,
)
from tegakari.cli.output import page_of, print_json, print_text, progress
from tegakari.extras import needs_extra
from tegakari.schemas.knockout import PER_LABEL


@needs_extra("study")
@knockout_options()
def table(
    runs: RunsOption,
    labels: LabelsOption = None,
    layer: LayerSelectionOption = None,
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

    Example: [bold]tegakari knockout table --run demo-jpn --run demo-base --label 旅行 --label 園芸 --holdout[/]
    """
    from tegakari.analyses.engine.model_loader import model_loader
    from tegakari.analyses.knockout.default_label import default_label
    from tegakari.analyses.knockout.layer_choice import check_selection, selected_layer
    from tegakari.analyses.knockout.mean import knockout_mean
    from tegakari.analyses.knockout.plots import label_bars
    from tegakari.analyses.knockout.sweeps import LabelKnockouts, check_over_labels, over_labels

    selection = read_layer_selection(layer)
    directory, opened = store_directory(store), open_runs(runs, store)
    check_selection(selection, [run.name for run in opened])
    request = knockout_settings(settings)
    shared = [label for label in opened[0].labels if all(label in run.labels for run in opened)]
    names = labels or shared
    requests = [msgspec.structs.replace(request, layer=selected_layer(selection, run.name)) for run in opened]
    for run, of_run in zip(opened, requests, strict=True):  # no run is computed if another one refuses the settings
        check_over_labels(run, names, of_run)
    knockouts: dict[str, LabelKnockouts] = {}
    with progress() as bars:
        for run, of_run in zip(opened, requests, strict=True):
            loader, per_label = model_loader(run, device), selection == PER_LABEL
            knockouts[run.name] = over_labels(directory, run, loader, names, of_run, per_label=per_label, progress=bars)
    results = {name: of_run.results for name, of_run in knockouts.items()}
    rows = [result for of_run in results.values() for result in of_run]
    write_knockouts(csv, rows)
    if plot:
        write_figure(plot, label_bars(results))
    if json:
        print_json(page_of(rows))
        return
    if len(results) > 1:
        print_side_by_side(results)
    else:
        print_knockouts(f"Recall without a label's features, {runs[0]}", rows)
    for run, (name, of_run) in zip(opened, knockouts.items(), strict=True):
        if of_run.choice:
            print_choice(of_run.choice)
        print_text(f"{name}: {knockout_mean_sentence(knockout_mean(of_run.results))}")
        if default := default_label(of_run.results, len(run.labels)):
            print_text(f"{name}: {default_label_sentence(default)}")
