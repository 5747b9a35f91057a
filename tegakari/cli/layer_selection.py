"""The `--layer` option of tables of knockouts."""

from __future__ import annotations

from typing import Annotated

import typer

from tegakari.schemas.errors import ConfigError
from tegakari.schemas.knockout import PER_LABEL, LayerSelection

LayerSelectionOption = Annotated[
    str | None,
    typer.Option(
        "--layer",
        help="Layer of the knockouts: one for all runs (24), layers by run (A=24,B=22), or per-label, the layer of "
        "largest net effect of each label. Default: per run the layer of the largest mean net effect over labels.",
    ),
]


def read_layer_selection(text: str | None) -> LayerSelection:
    """The layers of a `--layer` option.

    Raises:
        ConfigError: it is neither a layer, nor layers by run, nor per-label.
    """
    if text is None:
        return None
    if text == PER_LABEL:
        return PER_LABEL
    if text.isdigit():
        return int(text)
    layers: dict[str, int] = {}
    for part in text.split(","):
        run, _, layer = part.strip().rpartition("=")
        if not run or not layer.isdigit():
            raise ConfigError(
                f"{part.strip()!r} gives no layer",
                field="--layer",
                fix="write 24 for all runs, A=24,B=22 by run, or per-label",
            )
        if run in layers:
            raise ConfigError(f"run {run!r} has two layers", field="--layer", fix="give each run one layer")
        layers[run] = int(layer)
    return layers
