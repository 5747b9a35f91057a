"""`tegakari effects`."""

from __future__ import annotations

from typing import Annotated, TypeVar

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
    parse_feature,
)
from tegakari.cli.output import print_list
from tegakari.cli.row_limit import Pages, first_rows, print_rest
from tegakari.schemas.api import FeatureEffect, LabelEffect, Page
from tegakari.schemas.errors import ConfigError
from tegakari.schemas.filters import EffectOrder

T = TypeVar("T")


def effects(
    run: RunOption,
    label: Annotated[
        str | None,
        typer.Option("--label", "-l", help="Features by their effect on this label.", autocompletion=complete_label),
    ] = None,
    feature: Annotated[
        str | None, typer.Option("--feature", "-f", metavar="L:F", help="Labels by the effect of this feature on them.")
    ] = None,
    layer: Annotated[int | None, typer.Option(help="With --label: only features of this layer.")] = None,
    smallest: Annotated[bool, typer.Option("--smallest", help="Most negative effects first.")] = False,
    k: RowsOption = 20,
    every: AllOption = False,
    cursor: CursorOption = None,
    store: StoreOption = None,
    csv: CsvOption = None,
    json: JsonOption = False,
) -> None:
    """List label effects: how much a unit of a feature's activation adds to a label's logit, directly.

    Example: [bold]tegakari effects --run demo-jpn --label 自動車[/]
    """
    if (label is None) == (feature is None):
        raise ConfigError("effects are of a label or of a feature", field="--label", fix="give --label or --feature")
    if feature is not None and layer is not None:
        raise ConfigError("--feature names its layer", field="--layer", fix="omit it")
    order: EffectOrder = "smallest" if smallest else "largest"
    source = open_source(store)

    def show(page: Page[T], columns: tuple[str, ...], title: str) -> None:
        print_list(page.items, columns, title=title, json=json, csv=csv, document=page)
        if not json:
            print_rest(page, k)

    if label is not None:

        def features(limit: int) -> Pages[LabelEffect]:
            return source.label_effects(run, label, layer=layer, order=order, limit=limit)

        columns = ("layer", "feature", "effect", "cohens_d", "top_tokens", "variety", "density", "max_activation")
        show(first_rows(features, k, every, cursor), columns, f"Effects on {label} in {run}")
    else:
        of_layer, number = parse_feature(feature or "")

        def labels(limit: int) -> Pages[FeatureEffect]:
            return source.feature_effects(run, of_layer, number, order=order, limit=limit)

        title = f"Effects of feature {of_layer}:{number} of {run}"
        show(first_rows(labels, k, every, cursor), ("label", "effect"), title)
