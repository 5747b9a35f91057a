"""`tegakari classification`."""

from __future__ import annotations

from tegakari.analyses.formatting import interval
from tegakari.cli.options import JsonOption, RunsOption, StoreOption, open_source, split_names
from tegakari.cli.output import print_json, print_table


def classification(runs: RunsOption, store: StoreOption = None, json: JsonOption = False) -> None:
    """Show macro-F1 and accuracy of runs with intervals, beside the baseline.

    Example: [bold]tegakari classification --runs demo-jpn,demo-base[/]
    """
    source = open_source(store)
    results = [source.classification(run) for run in split_names(runs)]
    if json:
        print_json(results)
        return
    print_table(
        "Classification",
        ("run", "documents", "macro-F1 (95 %)", "accuracy (95 %)", "baseline macro-F1"),
        [
            (row.run, row.documents, interval(row.macro_f1), interval(row.accuracy), row.baseline_macro_f1)
            for row in results
        ],
    )
