"""Options that the knockout commands share; those of a knockout's settings come from `KnockoutSettings`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, TypeVar

import typer

from tegakari.cli.struct_options import checked_settings, struct_options
from tegakari.schemas.knockout import KnockoutSettings

T = TypeVar("T")

COMMAND = "knockout"

LayerOption = Annotated[int, typer.Option(help="Layer, from 0.")]


def knockout_options(*more: str, **defaults: Any) -> Callable[[Callable[..., T]], Callable[..., T]]:
    """Give a command the options of a label's knockout: `-k`, pooling, mode, positions, draws, seed, holdout.

    Args:
        more: further fields of `KnockoutSettings`.
        defaults: defaults that differ from the settings'.
    """
    fields = ("k", "pooling", "mode", "positions", "draws", "seed", "holdout", *more)
    return struct_options(KnockoutSettings, *fields, flags={"k": ("-k",)}, defaults=defaults)


def knockout_settings(options: dict[str, Any], **fields: Any) -> KnockoutSettings:
    """The settings of a command: its options and further fields.

    Raises:
        ConfigError: an option has a value that is not allowed.
    """
    return checked_settings(KnockoutSettings, {**options, **fields}, command=COMMAND)
