"""`tegakari config`: the configuration file."""

from __future__ import annotations

from pathlib import Path

import typer

from tegakari.cli.checks import Check, directory_check, print_checks
from tegakari.cli.options import DEFAULT_CONFIG, ConfigOption, JsonOption
from tegakari.schemas.config import Config, load_config

app = typer.Typer(help="The configuration file.", no_args_is_help=True)


@app.command()
def check(config: ConfigOption = DEFAULT_CONFIG, json: JsonOption = False) -> None:
    """Check keys and values of the configuration file, and the files and directories that it names.

    Exit code 1 if there is a problem.

    Example: [bold]tegakari config check --config tegakari.toml[/]
    """
    settings = load_config(config)
    print_checks(f"Configuration {config}", _checks(config, settings), json=json)


def _checks(config: Path, settings: Config) -> list[Check]:
    return [
        Check(what="keys and values", state="ok", value=str(config.absolute())),
        _source(settings.corpus.source),
        directory_check("corpus.path", Path(settings.corpus.path), made_by="tegakari corpus import"),
        _base(settings.classifier.base),
        directory_check("classifier.path", Path(settings.classifier.path), made_by="tegakari finetune"),
        directory_check("saes.path", Path(settings.saes.path), made_by="tegakari sae train"),
        directory_check("index.store", Path(settings.index.store), made_by="tegakari index"),
        Check(what="index.run", state="ok", value=settings.index.run),
        _keys(Path(settings.service.keys)),
    ]


def _source(source: str) -> Check:
    if Path(source).exists():
        return Check(what="corpus.source", state="ok", value=source)
    return Check(
        what="corpus.source", state="problem", value=f"{source} does not exist", fix="set corpus.source to your corpus"
    )


def _base(base: str) -> Check:
    if Path(base).is_dir():
        return Check(what="classifier.base", state="ok", value=base)
    if Path(base).is_absolute() or base.startswith(".") or base.count("/") > 1:
        return Check(
            what="classifier.base", state="problem", value=f"{base} does not exist", fix="name a directory or a hub id"
        )
    return Check(
        what="classifier.base",
        state="note",
        value=f"{base} is no directory",
        fix="it is taken for a hub id, which `tegakari finetune` downloads",
    )


def _keys(keys: Path) -> Check:
    if not keys.exists():
        fix = "`tegakari keys create` makes it; without keys the service answers this machine alone"
        return Check(what="service.keys", state="note", value=f"{keys} does not exist", fix=fix)
    if keys.stat().st_mode & 0o077:
        fix = f"chmod 600 {keys}"
        return Check(what="service.keys", state="problem", value=f"{keys} can be read by other users", fix=fix)
    return Check(what="service.keys", state="ok", value=str(keys))
