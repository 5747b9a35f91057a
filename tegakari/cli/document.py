"""`tegakari document`."""

from __future__ import annotations

from typing import Annotated

import typer

from tegakari.cli.options import CsvOption, DocumentOption, JsonOption, RunOption, StoreOption, open_source
from tegakari.cli.output import print_json, print_table, print_text, write_csv


def document(
    run: RunOption,
    document: DocumentOption,
    layer: Annotated[int | None, typer.Option(help="Only features of this layer.")] = None,
    k: Annotated[int, typer.Option("-k", min=0, help="Strongest features per layer.")] = 5,
    store: StoreOption = None,
    csv: CsvOption = None,
    json: JsonOption = False,
) -> None:
    """Show one document: its text, its label and prediction, and its strongest features. --csv writes the features.

    Example: [bold]tegakari document --run demo-jpn --document post-00743[/]
    """
    detail = open_source(store).document(run, document, layer=layer, features=k)
    if csv:
        write_csv(csv, detail.features)
    if json:
        print_json(detail)
        return
    cut = ", cut at the classifier's max_length" if detail.truncated else ""
    print_text(f"Document {detail.document} of {run}, {detail.split}, {detail.tokens:,} tokens{cut}", style="bold")
    print_text(
        f"label {detail.label} (logit {detail.label_logit:.3f}), predicted {detail.predicted} "
        f"(logit {detail.predicted_logit:.3f})"
    )
    print_text(detail.text)
    print_table(
        "Strongest features",
        ("layer", "feature", "activation", "top tokens", "variety"),
        [(str(row.layer), str(row.feature), row.activation, row.top_tokens, row.variety) for row in detail.features],
    )
