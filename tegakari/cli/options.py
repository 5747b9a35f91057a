"""Options that many commands share, each described once."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tegakari.schemas.config import Config, load_config

if TYPE_CHECKING:
    from tegakari.store import Run

ConfigOption = Annotated[
    Path, typer.Option("--config", "-c", help="Configuration file.", envvar="TEGAKARI_CONFIG", show_default=True)
]
StoreOption = Annotated[
    Path | None, typer.Option("--store", help="Store directory; default: the one of the configuration, else ./store.")
]
RunsOption = Annotated[str, typer.Option("--runs", help="Runs, separated by commas.")]
RunOption = Annotated[str, typer.Option("--run", "-r", help="Name of a published run.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for programs instead of a table.")]
DeviceOption = Annotated[str, typer.Option("--device", help="auto, cpu, cuda or cuda:N.")]
PoolingOption = Annotated[str | None, typer.Option("--pooling", help="last, max or mean; default: the run's.")]

DEFAULT_CONFIG = Path("tegakari.toml")


def store_directory(store: Path | None, config: Path = DEFAULT_CONFIG) -> Path:
    """The store asked for, or that of the configuration file if there is one, or ./store."""
    if store is not None:
        return store
    return Path(load_config(config).index.store) if config.is_file() else Path("store")


def read(config: Path) -> Config:
    """Load the configuration that a command was given."""
    return load_config(config)


def open_run(run: str, store: Path | None) -> Run:
    """Open a published run of the store that a command names."""
    from tegakari.store import Store

    return Store(store_directory(store)).run(run)


def open_runs(runs: str, store: Path | None) -> list[Run]:
    """Open the runs of a `--runs` option, in its order."""
    from tegakari.store import Store

    opened = Store(store_directory(store))
    return [opened.run(name) for name in runs.split(",")]
