"""`tegakari knockout single`."""

from __future__ import annotations

from typing import Any

from tegakari.analyses.formatting import points
from tegakari.cli.knockout.display import destinations, print_saes, write_knockouts
from tegakari.cli.knockout.shared_options import (
    LayerOption,
    knockout_options,
    knockout_settings,
)
from tegakari.cli.options import (
    CsvOption,
    DeviceOption,
    JsonOption,
    LabelOption,
    RunOption,
    StoreDirectoryOption,
    open_run,
    store_directory,
)
from tegakari.cli.output import print_list, progress
from tegakari.extras import needs_extra


@needs_extra("study")
@knockout_options(draws=0)
def single(
    run: RunOption,
    label: LabelOption,
    layer: LayerOption,
    *,
    settings: dict[str, Any],
    csv: CsvOption = None,
    device: DeviceOption = "auto",
    store: StoreDirectoryOption = None,
    json: JsonOption = False,
) -> None:
    """Ablate each of a label's strongest features alone.

    Example: [bold]tegakari knockout single --run demo-jpn --label 自動車 --layer 2 -k 10[/]
    """
    from tegakari.analyses.engine.model_loader import model_loader
    from tegakari.analyses.knockout.sweeps import over_features

    request = knockout_settings(settings, label=label, layer=layer)
    opened = open_run(run, store)
    with progress() as bars:
        results = over_features(store_directory(store), opened, model_loader(opened, device), request, progress=bars)
    write_knockouts(csv, results)
    print_list(
        results,
        {
            "feature": lambda row: str(row.features[0].feature),
            "d": lambda row: row.features[0].cohens_d,
            "density": lambda row: row.features[0].density,
            "after": "recall_after",
            "points": lambda row: f"{row.delta:+.1f}",
            "95 % interval": lambda row: f"{row.delta_low:+.1f} to {row.delta_high:+.1f}",
            "net": lambda row: points(row.net),
            "go to": lambda row: destinations(row, 3),
        },
        title=f"Recall of {label} in {run} without one feature of layer {layer}",
        json=json,
    )
    if not json:
        print_saes(results[:1])
