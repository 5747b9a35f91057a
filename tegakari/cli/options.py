"""Options that several commands share, each described once, and the store that they name."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tegakari.schemas.config import Pooling
from tegakari.schemas.errors import ConfigError

if TYPE_CHECKING:
    from tegakari.access.source import Source
    from tegakari.schemas.progress import Progress
    from tegakari.store import Run

ConfigOption = Annotated[
    Path, typer.Option("--config", "-c", help="Configuration file.", envvar="TEGAKARI_CONFIG", show_default=True)
]
StoreOption = Annotated[
    str | None,
    typer.Option(
        "--store",
        help="Store: a directory, or the address of a service (http://...), whose key is in TEGAKARI_KEY. "
        "Default: the store of the configuration file, else ./store.",
        envvar="TEGAKARI_STORE",
        show_default=False,
    ),
]
StoreDirectoryOption = Annotated[
    str | None,
    typer.Option(
        "--store",
        help="Store directory; default: the one of the configuration file, else ./store.",
        envvar="TEGAKARI_STORE",
        show_default=False,
    ),
]
SpreadsheetOption = Annotated[
    bool,
    typer.Option("--spreadsheet", help="CSV for spreadsheets: texts that they would run as formulas get a leading '."),
]
RunsOption = Annotated[str, typer.Option("--runs", help="Runs, separated by commas.")]
RunOption = Annotated[str, typer.Option("--run", "-r", help="Name of a published run.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for programs instead of a table.")]
DeviceOption = Annotated[str, typer.Option("--device", help="auto, cpu, cuda or cuda:N.")]
PoolingOption = Annotated[Pooling | None, typer.Option("--pooling", help="Pooling of activations; default: the run's.")]
ConceptsOption = Annotated[
    Path | None, typer.Option("--concepts", help="JSON file of concepts and their forms; default: 50 in Japanese.")
]

DEFAULT_CONFIG = Path("tegakari.toml")
DEFAULT_STORE = "store"


def split_names(names: str) -> list[str]:
    """The names of an option that takes several, separated by commas."""
    return [name.strip() for name in names.split(",")]


def store_name(store: str | None, config: Path = DEFAULT_CONFIG) -> str:
    """The `--store` of a command, else the store of the configuration file if there is one, else ./store."""
    if store is not None:
        return store
    if not config.is_file():
        return DEFAULT_STORE
    from tegakari.schemas.config import load_config

    return load_config(config).index.store


def store_directory(store: str | None, config: Path = DEFAULT_CONFIG) -> Path:
    """The store of a command that needs its files.

    Raises:
        ConfigError: the store is a service.
    """
    name = store_name(store, config)
    if is_address(name):
        raise ConfigError(
            f"{name} is a service; this command needs the store's files",
            field="--store",
            fix="run it on the machine of the store, with the store's directory",
        )
    return Path(name)


def is_address(store: str) -> bool:
    """Whether a store is a service rather than a directory."""
    return store.startswith(("http://", "https://"))


def open_source(store: str | None, *, device: str = "auto", progress: Progress | None = None) -> Source:
    """The store of a command, as its queries need it: a directory or a service.

    Args:
        store: the `--store` of the command.
        device: where a directory's classifiers run.
        progress: of knockouts in a directory.

    Raises:
        MissingExtraError: the store is a directory, and `tegakari[store]` is not installed.
    """
    name = store_name(store)
    if is_address(name):
        from tegakari.client import Client

        return Client(name)
    from tegakari.extras import extras_named

    with extras_named():
        from tegakari.access.local import LocalStore

    return LocalStore(name, device=device, progress=progress)


def open_runs(runs: str, store: str | None) -> list[Run]:
    """The runs of a `--runs` option, opened in its order, for a command that needs their files."""
    from tegakari.store import Store

    opened = Store(store_directory(store))
    return [opened.run(name) for name in split_names(runs)]


def open_run(run: str, store: str | None) -> Run:
    """The run of a `--run` option, opened for a command that needs its files."""
    from tegakari.store import Store

    return Store(store_directory(store)).run(run)
