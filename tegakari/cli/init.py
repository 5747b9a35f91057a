"""`tegakari init`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tegakari.cli.options import DEFAULT_CONFIG, JsonOption
from tegakari.cli.output import print_json, print_text
from tegakari.schemas.config.presets import PRESETS
from tegakari.schemas.config.render import render_config
from tegakari.schemas.errors import ConfigError


def init(
    preset: Annotated[str, typer.Option(help=f"One of: {', '.join(PRESETS)}.")] = "gemma-2-2b-jpn-it",
    path: Annotated[Path, typer.Option(help="File to write.")] = DEFAULT_CONFIG,
    json: JsonOption = False,
) -> None:
    """Write a commented configuration file.

    Example: [bold]tegakari init --preset gemma-2-2b-it[/]
    """
    if preset not in PRESETS:
        raise ConfigError(f"no preset {preset!r}", field="--preset", fix=f"use one of: {', '.join(PRESETS)}")
    if path.exists():
        raise ConfigError(f"{path} exists", field="--path", fix="choose another path, or remove the file first")
    path.write_text(render_config(PRESETS[preset]), encoding="utf-8")
    if json:
        print_json({"path": str(path), "preset": preset})
    else:
        print_text(f"wrote {path}; set corpus.source in it, then: tegakari corpus import")
