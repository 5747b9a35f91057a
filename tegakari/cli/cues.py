"""`tegakari cues`."""

from __future__ import annotations

from typing import Annotated

import typer

from tegakari.analyses.formatting import interval, label_tokens
from tegakari.analyses.visible_text import visible_tokens
from tegakari.cli.options import CsvOption, JsonOption, LabelsOption, RunsOption, StoreOption, open_source
from tegakari.cli.output import print_list
from tegakari.schemas.study import LabelCues


def cues(
    runs: RunsOption,
    labels: LabelsOption = None,
    layer: Annotated[int | None, typer.Option(help="Layer of the features; default: all layers.")] = None,
    k: Annotated[int, typer.Option("-k", help="Features with the largest d for a label.")] = 20,
    store: StoreOption = None,
    csv: CsvOption = None,
    json: JsonOption = False,
) -> None:
    """Show the tokens on which the features of labels fire, and how varied they are.

    Example: [bold]tegakari cues --run demo-jpn --run demo-base --label 旅行 --label 園芸 --layer 2[/]
    """
    source = open_source(store)
    results: list[LabelCues] = []
    for run in runs:
        names = labels or [row.label for row in source.labels(run)]
        results += [source.cues(run, label, layer=layer, k=k) for label in names]
    print_list(
        results,
        {
            "run": "run",
            "label": "label",
            "tokens of the label (features)": lambda row: label_tokens(row.label_tokens),
            "top token share (95 %)": lambda row: interval(row.top_token_share),
            "unique tokens (95 %)": lambda row: interval(row.unique_tokens),
            "strongest feature fires on": lambda row: visible_tokens(cue.token for cue in row.features[0].tokens[:5]),
            "tokens up to its onset by lift": lambda row: visible_tokens(row.features[0].lift_tokens),
        },
        title="Cues",
        json=json,
        csv=csv,
        drop=("unique tokens (95 %)", "top token share (95 %)"),
    )
