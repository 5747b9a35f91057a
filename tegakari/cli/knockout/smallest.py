"""`tegakari knockout smallest`."""

from __future__ import annotations

from typing import Any

from tegakari.cli.knockout.display import write_figure
from tegakari.cli.knockout.shared_options import COMMAND, LayerOption
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
from tegakari.cli.output import print_json, print_table, print_text, progress, write_csv
from tegakari.cli.struct_options import checked_settings, struct_options
from tegakari.extras import needs_extra
from tegakari.schemas.knockout import SmallestSetResult, SmallestSetSettings


@needs_extra("study")
@struct_options(SmallestSetSettings, "candidates", "share", "pooling", "mode", "positions")
def smallest(
    run: RunOption,
    label: LabelOption,
    layer: LayerOption,
    *,
    settings: dict[str, Any],
    plot: PlotOption = None,
    csv: CsvOption = None,
    device: DeviceOption = "auto",
    store: StoreDirectoryOption = None,
    json: JsonOption = False,
) -> None:
    """Search the fewest features without which a label's recall is halved: how many clues it depends on.

    Example: [bold]tegakari knockout smallest --run demo-jpn --label 自動車 --layer 2[/]
    """
    from tegakari.analyses.engine.model_loader import model_loader
    from tegakari.analyses.knockout.plots import greedy_steps
    from tegakari.analyses.knockout.smallest import smallest_set

    request = checked_settings(SmallestSetSettings, {**settings, "label": label, "layer": layer}, command=COMMAND)
    opened = open_run(run, store)
    with progress() as bars:
        result = smallest_set(store_directory(store), opened, model_loader(opened, device), request, progress=bars)
    if plot:
        write_figure(plot, greedy_steps(result))
    if csv:
        write_csv(csv, result.steps)
    if json:
        print_json(result)
    else:
        _print(result)


def _print(result: SmallestSetResult) -> None:
    settings = result.settings
    print_table(
        f"Features of layer {settings.layer} that {settings.label} depends on in {result.run}: "
        f"recall {result.recall_before:.3f} with all",
        ("ablated", "feature", "d", "recall"),
        [(number, str(step.feature), step.cohens_d, step.recall) for number, step in enumerate(result.steps, 1)],
    )
    if result.reached:
        by_d = f"chosen by d it takes {result.by_d}" if result.by_d else "chosen by d, all candidates do not suffice"
        count = f"{len(result.steps)} feature{'' if len(result.steps) == 1 else 's'}"
        last = f"{result.steps[-1].recall:.3f}"
        line = f"without {count} recall is {last}, at or below the target of {result.target:.3f}; {by_d}"
    else:
        line = f"no further candidate of {settings.candidates} lowers recall: {result.target:.3f} is not reached"
    print_text(line)
