"""`tegakari sparsity`."""

from __future__ import annotations

from tegakari.analyses.formatting import interval
from tegakari.cli.options import CsvOption, JsonOption, RunsOption, StoreOption, open_source
from tegakari.cli.output import page_of, print_json, print_table, write_csv


def sparsity(runs: RunsOption, store: StoreOption = None, csv: CsvOption = None, json: JsonOption = False) -> None:
    """Show how many features are active per document, and the share of the strongest 20.

    Example: [bold]tegakari sparsity --run demo-jpn --run demo-base[/]
    """
    source = open_source(store)
    results = [source.sparsity(run) for run in runs]
    if csv:
        write_csv(csv, results)
    if json:
        print_json(page_of(results))
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
