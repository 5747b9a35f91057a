"""`tegakari feature`."""

from __future__ import annotations

from itertools import islice
from typing import Annotated

import msgspec
import typer

from tegakari.access.source import Source
from tegakari.cli.options import (
    AllOption,
    CsvOption,
    FeatureOption,
    JsonOption,
    PoolingOption,
    RunOption,
    StoreOption,
    open_source,
    parse_feature,
)
from tegakari.cli.output import print_cut, print_json, print_table, print_text, write_csv
from tegakari.cli.visible import Context
from tegakari.schemas.errors import NotFoundError, TegakariError

SHOWN_LABELS = 10


def feature(
    run: RunOption,
    feature: FeatureOption,
    k: Annotated[int, typer.Option("-k", min=0, help="Strongest positions.")] = 20,
    every: AllOption = False,
    pooling: PoolingOption = None,
    store: StoreOption = None,
    csv: CsvOption = None,
    json: JsonOption = False,
) -> None:
    """Show one feature: its statistics, its labels by Cohen's d, and where it is strongest.

    The token on which it is active stands between ⟦ and ⟧; in texts these two characters are written as escapes.
    --csv writes the positions.

    Example: [bold]tegakari feature --run demo-jpn --feature 3:361[/]
    """
    source = open_source(store)
    layer, number = parse_feature(feature)
    detail = source.feature(run, layer, number, pooling=pooling, tokens=0, onset=True)
    positions = list(islice(source.feature_tokens(run, layer, number), None if every else k + 1))
    more = not every and len(positions) > k
    positions = positions[:k] if more else positions
    if csv:
        write_csv(csv, positions)
    if json:
        print_json(msgspec.structs.replace(detail, tokens=positions))
        return
    print_text(
        f"Layer {detail.layer} feature {detail.feature} of {run}: active on {detail.density:.2%} of positions, "
        f"maximum {detail.max_activation:.3f}, label variety {detail.variety} (pooling {detail.pooling})"
    )
    effects = _effects(source, run, layer, number)
    labels = detail.labels if every else detail.labels[:SHOWN_LABELS]
    print_table(
        "Labels",
        ("label", "d", "effect", "documents active", "documents", "mean", "sd", "unweighted d"),
        [
            (
                row.label,
                row.cohens_d,
                effects.get(row.label),
                row.documents_active,
                row.documents,
                row.mean,
                row.sd,
                row.cohens_d_unweighted,
            )
            for row in labels
        ],
    )
    if len(labels) < len(detail.labels):
        print_cut(len(labels), len(detail.labels), "--all or --json shows all")
    if detail.onset:
        title = f"Onset in {detail.onset.documents} documents"
        columns = ("token", "documents", "share", "lift")
        for name, rows in (("", detail.onset.onset_tokens), (": tokens up to there by lift", detail.onset.lift_tokens)):
            print_table(title + name, columns, [(row.token, row.documents, row.share, row.lift) for row in rows])
    print_table(
        "Strongest positions",
        ("activation", "context", "label", "document", "position"),
        [
            (row.activation, Context(row.before, row.token, row.after), row.label, row.document, str(row.position))
            for row in positions
        ],
    )
    if more:
        print_cut(len(positions), None, f"-k {max(2 * k, 50)} or --all shows more")


def _effects(source: Source, run: str, layer: int, feature: int) -> dict[str, float]:
    """Effect of a feature on each label; empty for a layer or a run without label effects."""
    try:
        return {row.label: row.effect for row in source.feature_effects(run, layer, feature)}
    except TegakariError as error:
        if error.status != NotFoundError.status:
            raise
        return {}
