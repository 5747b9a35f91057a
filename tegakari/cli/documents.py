"""`tegakari documents`."""

from __future__ import annotations

from typing import Annotated

import typer

from tegakari.cli.options import (
    AllOption,
    CsvOption,
    CursorOption,
    JsonOption,
    RowsOption,
    RunOption,
    StoreOption,
    complete_label,
    open_source,
)
from tegakari.cli.output import print_list
from tegakari.cli.row_limit import first_rows, print_rest


def documents(
    run: RunOption,
    label: Annotated[
        str | None, typer.Option("--label", "-l", help="Only documents of this label.", autocompletion=complete_label)
    ] = None,
    predicted: Annotated[
        str | None, typer.Option(help="Only documents predicted as this label.", autocompletion=complete_label)
    ] = None,
    correct: Annotated[
        bool | None, typer.Option("--correct/--wrong", help="Only documents predicted as their label, or as another.")
    ] = None,
    k: RowsOption = 20,
    every: AllOption = False,
    cursor: CursorOption = None,
    store: StoreOption = None,
    csv: CsvOption = None,
    json: JsonOption = False,
) -> None:
    """List the documents of a run with their labels and predictions.

    Example: [bold]tegakari documents --run demo-jpn --label 旅行 --wrong[/]
    """
    source = open_source(store)
    page = first_rows(
        lambda limit: source.documents(run, label=label, predicted=predicted, correct=correct, limit=limit),
        k,
        every,
        cursor,
    )
    print_list(
        page.items,
        ("document", "label", "predicted", "text", "tokens"),
        title=f"Documents of {run}",
        json=json,
        csv=csv,
        document=page,
    )
    if not json:
        print_rest(page, k)
