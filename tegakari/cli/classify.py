"""`tegakari classify`."""

from __future__ import annotations

from typing import Annotated

import typer

from tegakari.cli.options import CsvOption, DeviceOption, JsonOption, RunOption, StoreOption, TextsOption, open_source
from tegakari.cli.output import page_of, print_cut, print_json, print_table, progress, write_csv
from tegakari.cli.visible import shorten, visible
from tegakari.extras import extras_named


def classify(
    run: RunOption,
    text: TextsOption,
    k: Annotated[int, typer.Option("-k", min=1, help="Labels of largest probability.")] = 5,
    device: DeviceOption = "auto",
    store: StoreOption = None,
    csv: CsvOption = None,
    json: JsonOption = False,
) -> None:
    """Predict the labels of texts with the classifier of a run.

    Example: [bold]tegakari classify --run demo-jpn --text 週末に軽トラで買い物に行きました[/]
    """
    with progress() as bars, extras_named():
        results = open_source(store, device=device, progress=bars).classify(run, text)
    if csv:
        write_csv(csv, results)
    if json:
        print_json(page_of(results))
        return
    for words, result in zip(text, results, strict=True):
        cut = ", cut at the classifier's max_length" if result.truncated else ""
        labels = sorted(result.labels, key=lambda score: -score.logit)
        print_table(
            f"{shorten(visible(words), 40)}: {result.predicted} ({result.tokens:,} tokens{cut})",
            ("label", "probability", "logit"),
            [(score.label, score.probability, score.logit) for score in labels[:k]],
        )
        if len(labels) > k:
            print_cut(k, len(labels), f"-k {len(labels)} or --json shows all")
