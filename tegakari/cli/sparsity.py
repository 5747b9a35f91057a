"""`tegakari sparsity`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tegakari.analyses.formatting import interval
from tegakari.cli.options import JsonOption, RunsOption, StoreOption, open_runs
from tegakari.cli.output import print_json, print_table

if TYPE_CHECKING:
    pass


def sparsity(runs: RunsOption, store: StoreOption = None, json: JsonOption = False) -> None:
    """Show how many features are active, and how much the strongest 20 carry.

    Example: [bold]tegakari sparsity --runs demo-jpn,demo-base[/]
    """
    from tegakari.analyses.sparsity import sparsity as measure

    found = [measure(run) for run in open_runs(runs, store)]
    if json:
        print_json(found)
        return
    for result in found:
        print_table(
            f"Sparsity of {result.run}, pooling {result.pooling}, {result.documents} documents",
            ("layer", "active (95 %)", "a position", "top-20 ratio (95 %)"),
            [
                (str(row.layer), interval(row.active), row.per_position, interval(row.top20_ratio))
                for row in result.layers
            ]
            + [("mean", interval(result.active), result.per_position, interval(result.top20_ratio))],
        )
