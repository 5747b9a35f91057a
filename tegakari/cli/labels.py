"""`tegakari labels`."""

from __future__ import annotations

from tegakari.cli.options import CsvOption, JsonOption, RunOption, StoreOption, open_source
from tegakari.cli.output import print_list


def labels(run: RunOption, store: StoreOption = None, csv: CsvOption = None, json: JsonOption = False) -> None:
    """List the labels of a run with their scores and how many features are specific to them.

    Example: [bold]tegakari labels --run demo-jpn[/]
    """
    rows = list(open_source(store).labels(run))
    columns = ("label", "documents", "recall", "precision", "f1", "specific_features", "shared_features")
    print_list(rows, columns, title=f"Labels of {run}", json=json, csv=csv)
