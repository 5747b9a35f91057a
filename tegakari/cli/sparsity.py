"""`tegakari sparsity`."""

from __future__ import annotations

from tegakari.analyses.formatting import interval
from tegakari.cli.options import JsonOption, RunsOption, StoreOption, open_source, split_names
from tegakari.cli.output import print_json, print_table


def sparsity(runs: RunsOption, store: StoreOption = None, json: JsonOption = False) -> None:
    """Show how many features are active per document, and the share of the strongest 20.

    Example: [bold]tegakari sparsity --runs demo-jpn,demo-base[/]
    """
    source = open_source(store)
    results = [source.sparsity(run) for run in split_names(runs)]
    if json:
        print_json(results)
        return
    for result in results:
        print_table(
            f"Sparsity of {result.run}, pooling {result.pooling}, {result.documents} documents",
            ("layer", "active (95 %)", "per position", "top-20 ratio (95 %)"),
            [
                (str(row.layer), interval(row.active), row.per_position, interval(row.top20_ratio))
                for row in result.layers
            ]
            + [("mean", interval(result.active), result.per_position, interval(result.top20_ratio))],
        )
