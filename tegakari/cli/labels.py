"""`tegakari labels`."""

from __future__ import annotations

from tegakari.cli.options import JsonOption, RunOption, StoreOption, open_source
from tegakari.cli.output import print_json, print_table


def labels(run: RunOption, store: StoreOption = None, json: JsonOption = False) -> None:
    """List the labels of a run with their scores and how many features are specific to them.

    Example: [bold]tegakari labels --run demo-jpn[/]
    """
    rows = list(open_source(store).labels(run))
    if json:
        print_json(rows)
        return
    print_table(
        f"Labels of {run}",
        ("label", "documents", "recall", "precision", "F1", "specific features", "shared features"),
        [
            (row.label, row.documents, row.recall, row.precision, row.f1, row.specific_features, row.shared_features)
            for row in rows
        ],
    )
