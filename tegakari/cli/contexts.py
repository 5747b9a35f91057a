"""`tegakari contexts`."""

from __future__ import annotations

from typing import Annotated

import typer

from tegakari.cli.options import (
    AllOption,
    CsvOption,
    FeatureOption,
    JsonOption,
    RunOption,
    StoreOption,
    open_source,
    parse_feature,
)
from tegakari.cli.output import page_of, print_cut, print_json, print_table, write_csv
from tegakari.cli.visible import Context
from tegakari.schemas.api import FeatureContext


def contexts(
    run: RunOption,
    feature: FeatureOption,
    quantile: Annotated[
        int | None,
        typer.Option(help="0: only the strongest positions; 1 (weakest) to 10: only this tenth of the sample."),
    ] = None,
    k: Annotated[int, typer.Option("-k", min=1, help="Strongest positions.")] = 10,
    every: AllOption = False,
    store: StoreOption = None,
    csv: CsvOption = None,
    json: JsonOption = False,
) -> None:
    """Show a feature in context: windows of tokens around its strongest positions and around a sample of all strengths.

    The sample is of documents in which the feature is active: ten tenths by their strongest activation, 1 the weakest.
    --csv and --json write the activation at every token.

    Example: [bold]tegakari contexts --run demo-jpn --feature 3:361[/]
    """
    layer, number = parse_feature(feature)
    rows = list(open_source(store).feature_contexts(run, layer, number, quantile=quantile))
    shown = rows if every else [row for row in rows if row.quantile > 0 or row.rank <= k]
    if csv:
        write_csv(csv, shown)
    if json:
        print_json(page_of(shown))
        return
    print_table(
        f"Contexts of layer {layer} feature {number} of {run}",
        ("quantile", "activation", "context", "label", "document", "position"),
        [
            (str(row.quantile), row.activation, _in_context(row), row.label, row.document, str(row.position))
            for row in shown
        ],
    )
    if len(shown) < len(rows):
        print_cut(len(shown), len(rows), "--all shows all strongest positions")


def _in_context(row: FeatureContext) -> Context:
    place = row.position - row.start
    return Context("".join(row.tokens[:place]), row.tokens[place], "".join(row.tokens[place + 1 :]))
