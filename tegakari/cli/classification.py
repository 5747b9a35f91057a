"""`tegakari classification`."""

from __future__ import annotations

from tegakari.analyses.formatting import interval
from tegakari.cli.options import CsvOption, JsonOption, RunsOption, StoreOption, open_source
from tegakari.cli.output import print_list


def classification(
    runs: RunsOption, store: StoreOption = None, csv: CsvOption = None, json: JsonOption = False
) -> None:
    """Show macro-F1 and accuracy of runs with intervals, beside the baseline.

    Example: [bold]tegakari classification --run demo-jpn --run demo-base[/]
    """
    source = open_source(store)
    print_list(
        [source.classification(run) for run in runs],
        {
            "run": "run",
            "documents": "documents",
            "macro-F1 (95 %)": lambda row: interval(row.macro_f1),
            "accuracy (95 %)": lambda row: interval(row.accuracy),
            "baseline macro-F1": "baseline_macro_f1",
        },
        title="Classification",
        json=json,
        csv=csv,
        drop=("documents",),
    )
