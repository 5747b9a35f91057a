"""`tegakari classification`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tegakari.analyses.formatting import interval
from tegakari.cli.options import JsonOption, RunsOption, StoreOption, open_runs
from tegakari.cli.output import print_json, print_table

if TYPE_CHECKING:
    pass


def classification(runs: RunsOption, store: StoreOption = None, json: JsonOption = False) -> None:
    """Show macro-F1 and accuracy of runs with intervals, beside the baseline.

    Example: [bold]tegakari classification --runs demo-jpn,demo-base[/]
    """
    from tegakari.analyses.classification import classification as score

    found = [score(run) for run in open_runs(runs, store)]
    if json:
        print_json(found)
        return
    print_table(
        "Classification",
        ("run", "documents", "macro-F1 (95 %)", "accuracy (95 %)", "baseline macro-F1"),
        [
            (row.run, row.documents, interval(row.macro_f1), interval(row.accuracy), row.baseline_macro_f1)
            for row in found
        ],
    )
