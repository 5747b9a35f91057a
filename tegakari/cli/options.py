"""Options that several commands share, each described once, and the store and runs that they name."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tegakari.cli.output_paths import output_file
from tegakari.schemas.config import Pooling
from tegakari.schemas.errors import ConfigError, TegakariError

if TYPE_CHECKING:
    from tegakari.access.source import Source
    from tegakari.schemas.progress import Progress
    from tegakari.store import Run

DEFAULT_CONFIG = Path("tegakari.toml")
DEFAULT_STORE = "store"
RUN_VARIABLE = "TEGAKARI_RUN"
MAX_ROWS = 1000
"""Rows of a page, the same as of the API."""


def default_run() -> str:
    """The run of a command without `--run` where TEGAKARI_RUN is not set: `index.run` of the configuration file.

    Raises:
        BadParameter: there is no configuration file.
    """
    if not DEFAULT_CONFIG.is_file():
        raise typer.BadParameter(
            f"no run is named. Give --run NAME (`tegakari runs list` shows the names), set {RUN_VARIABLE}, or work in "
            f"a directory with {DEFAULT_CONFIG}",
            param_hint="--run",
        )
    from tegakari.schemas.config import load_config

    return load_config(DEFAULT_CONFIG).index.run


def _no_run() -> None:
    """Default of `--run`, so that it may be left out; a callback replaces it."""


def _run_or_default(context: typer.Context, run: str | None) -> str | None:
    return run or (None if context.resilient_parsing else default_run())


def _runs_or_default(context: typer.Context, runs: list[str] | None) -> list[str]:
    return runs or ([] if context.resilient_parsing else [default_run()])


def _not_empty(texts: list[str]) -> list[str]:
    """Texts of an option, checked before a model is loaded for them."""
    if not all(texts):
        raise typer.BadParameter("a text is empty; give a text with words")
    return texts


def complete_run(context: typer.Context, incomplete: str) -> list[str]:
    """Names of the store's runs, for the shell. An error gives none: a completion must not print anything else."""
    try:
        names = [row.run for row in open_source(context.params.get("store")).runs()]
    except (TegakariError, OSError, typer.BadParameter):
        return []
    return [name for name in names if name.startswith(incomplete)]


def complete_label(context: typer.Context, incomplete: str) -> list[str]:
    """Labels of the run of the command, of the first one if it has several."""
    try:
        run = context.params.get("run") or context.params.get("runs") or default_run()
        labels = open_source(context.params.get("store")).labels(run if isinstance(run, str) else run[0])
        names = [row.label for row in labels]
    except (TegakariError, OSError, typer.BadParameter):
        return []
    return [name for name in names if name.startswith(incomplete)]


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
AnyStoreOption = Annotated[
    str | None,
    typer.Option(
        "--store",
        help="Store: a directory, a bucket (s3://bucket/prefix), or the address of a service (http://...), whose "
        "key is in TEGAKARI_KEY. Default: the store of the configuration file, else ./store.",
        envvar="TEGAKARI_STORE",
        show_default=False,
    ),
]
DirectoryOrBucketOption = Annotated[
    str | None,
    typer.Option(
        "--store",
        help="Store: a directory, or a bucket (s3://bucket/prefix). Default: the store of the configuration file, "
        "else ./store.",
        envvar="TEGAKARI_STORE",
        show_default=False,
    ),
]
SpreadsheetOption = Annotated[
    bool,
    typer.Option("--spreadsheet", help="CSV for spreadsheets: texts that they would run as formulas get a leading '."),
]
BomOption = Annotated[
    bool, typer.Option("--bom", help="CSV with a byte order mark, by which Excel knows that it is UTF-8.")
]
RunOption = Annotated[
    str,
    typer.Option(
        "--run",
        "-r",
        help="Name of a published run; default: `index.run` of tegakari.toml.",
        envvar=RUN_VARIABLE,
        default_factory=_no_run,
        callback=_run_or_default,
        autocompletion=complete_run,
        show_default=False,
    ),
]
GroupRunOption = Annotated[
    str | None,
    typer.Option(
        "--run",
        "-r",
        help="Name of a published run; default: `index.run` of tegakari.toml.",
        envvar=RUN_VARIABLE,
        autocompletion=complete_run,
        show_default=False,
    ),
]
"""As `RunOption`, for a command that is also a group: a subcommand has a run of its own."""
RunsOption = Annotated[
    list[str],
    typer.Option(
        "--run",
        "-r",
        help="Name of a published run; repeatable. Default: `index.run` of tegakari.toml.",
        envvar=RUN_VARIABLE,
        default_factory=_no_run,
        callback=_runs_or_default,
        autocompletion=complete_run,
        show_default=False,
    ),
]
LabelOption = Annotated[
    str, typer.Option("--label", "-l", help="Label, as `tegakari labels` shows it.", autocompletion=complete_label)
]
LabelsOption = Annotated[
    list[str] | None,
    typer.Option("--label", "-l", help="Only this label; repeatable. Default: all.", autocompletion=complete_label),
]
FeatureOption = Annotated[
    str, typer.Option("--feature", "-f", metavar="L:F", help="Feature F of layer L, both from 0, as 2:17.")
]
DocumentOption = Annotated[str, typer.Option("--document", "-d", help="Document of the run, by id.")]
TextsOption = Annotated[
    list[str], typer.Option("--text", "-t", help="Title, newline, body; repeatable.", callback=_not_empty)
]
RowsOption = Annotated[int, typer.Option("-k", min=1, max=MAX_ROWS, help="Rows.")]
AllOption = Annotated[bool, typer.Option("--all", help="All rows.")]
AuthorOption = Annotated[
    str | None,
    typer.Option(help="Author; default: the name of the API key of a service, the login name for a directory."),
]
CursorOption = Annotated[str | None, typer.Option("--cursor", help="`next` of the page before.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for programs instead of a table.")]
CsvOption = Annotated[
    Path | None,
    typer.Option(
        "--csv",
        help="Write the rows to this file, with the field names of --json; XLSX if its name ends in .xlsx.",
        callback=output_file,
    ),
]
PlotOption = Annotated[
    Path | None, typer.Option("--plot", help="Write a picture, SVG, to this file.", callback=output_file)
]
OwnScaleOption = Annotated[
    bool,
    typer.Option("--own-scale", help="Draw the effects of Figure 1 in units of each run's largest, as the study does."),
]
DeviceOption = Annotated[str, typer.Option("--device", help="auto, cpu, cuda or cuda:N.")]
PoolingOption = Annotated[Pooling | None, typer.Option("--pooling", help="Pooling of activations; default: the run's.")]
ConceptsOption = Annotated[
    Path | None, typer.Option("--concepts", help="JSON file of concepts and their forms; default: 50 in Japanese.")
]


def parse_feature(text: str) -> tuple[int, int]:
    """Layer and feature of a `--feature` option.

    Raises:
        ConfigError: it is not LAYER:FEATURE.
    """
    layer, _, feature = text.partition(":")
    if not (layer.isascii() and layer.isdigit() and feature.isascii() and feature.isdigit()):
        raise ConfigError(f"{text!r} is no feature", field="--feature", fix="write LAYER:FEATURE, as 2:17")
    return int(layer), int(feature)


def feature_filter(feature: str | None, layer: int | None) -> tuple[int | None, int | None]:
    """Layer and feature that a list is restricted to, of the options `--feature` and `--layer`; None: no restriction.

    Raises:
        ConfigError: the feature is not LAYER:FEATURE, or both options are given.
    """
    if feature is None:
        return layer, None
    if layer is not None:
        raise ConfigError("a feature is given as well", field="--layer", fix="give --feature L:F or --layer")
    return parse_feature(feature)


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
        ConfigError: the store is a service or a bucket.
    """
    name = store_name(store, config)
    refuse_bucket(name)
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


def is_bucket(store: str) -> bool:
    """Whether a store is a bucket of S3 rather than a directory or a service."""
    return store.startswith("s3://")


def refuse_bucket(store: str) -> None:
    """Refuse a bucket where files of a disk are read.

    Raises:
        ConfigError: the store is a bucket.
    """
    if is_bucket(store):
        raise ConfigError(
            f"{store} is a bucket; this command needs a store on a disk",
            field="--store",
            fix=f"copy a run with `tegakari runs pull RUN --from {store} --store DIRECTORY`, and name that directory",
        )


def open_source(store: str | None, *, device: str = "auto", progress: Progress | None = None) -> Source:
    """The store of a command, as its queries need it: a directory or a service.

    Args:
        store: the `--store` of the command.
        device: where a directory's classifiers run.
        progress: of knockouts in a directory.

    Raises:
        ConfigError: the store is a bucket.
        MissingExtraError: the store is a directory, and `tegakari[store]` is not installed.
    """
    name = store_name(store)
    refuse_bucket(name)
    if is_address(name):
        from tegakari.client import Client

        return Client(name)
    from tegakari.extras import extras_named

    with extras_named():
        from tegakari.access.local import LocalStore

    return LocalStore(name, device=device, progress=progress)


def open_runs(runs: list[str], store: str | None) -> list[Run]:
    """The runs of repeated `--run` options, opened in their order, for a command that needs their files."""
    from tegakari.store import Store

    opened = Store(store_directory(store))
    return [opened.run(name) for name in runs]


def open_run(run: str, store: str | None) -> Run:
    """The run of a `--run` option, opened for a command that needs its files."""
    from tegakari.store import Store

    return Store(store_directory(store)).run(run)
