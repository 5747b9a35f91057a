"""The `--layer` option of tables of knockouts."""

from __future__ import annotations

from typing import Annotated

import typer

from tegakari.schemas.errors import ConfigError
from tegakari.schemas.knockout import PER_LABEL, LayerSelection

LayerSelectionOption = Annotated[
    list[str] | None,
    typer.Option(
        "--layer",
        help="Layer of the knockouts: one for all runs (24), one per run (--layer A=24 --layer B=22), or per-label, "
        "the layer of largest net effect of each label. Default: per run the layer of the largest mean net effect over "
        "labels.",
    ),
]


def read_layer_selection(values: list[str] | None) -> LayerSelection:
    """The layers of the `--layer` options of a command.

    Raises:
        ConfigError: it is neither a layer, nor layers by run, nor per-label.
    """
    if not values:
        return None
    if values == [PER_LABEL]:
        return PER_LABEL
    if len(values) == 1 and values[0].isdigit():
        return int(values[0])
    layers: dict[str, int] = {}
    for value in values:
        run, _, layer = value.strip().rpartition("=")
        if not run or not layer.isdigit():
            raise ConfigError(
                f"{value!r} gives no layer",
                field="--layer",
                fix="write --layer 24 for all runs, --layer A=24 --layer B=22 by run, or --layer per-label",
            )
        if run in layers:
            raise ConfigError(f"run {run!r} has two layers", field="--layer", fix="give each run one layer")
        layers[run] = int(layer)
    return layers
