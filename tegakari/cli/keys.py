"""`tegakari keys`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, cast

import msgspec
import typer

from tegakari.cli.options import DEFAULT_CONFIG, ConfigOption, JsonOption
from tegakari.cli.output import err, out, print_json, print_list, print_text
from tegakari.extras import needs_extra
from tegakari.schemas.config import ServiceConfig, load_config
from tegakari.schemas.errors import ConfigError
from tegakari.schemas.keys import KEY_SCOPES, ApiKey, KeyScope

app = typer.Typer(help="API keys of the service.", no_args_is_help=True)

KeysOption = Annotated[Path | None, typer.Option("--keys", help="File of keys; default: the configuration's.")]


class NewKey(ApiKey, frozen=True, kw_only=True):
    """A new key, with its secret."""

    key: str


def _file(keys: Path | None, config: Path) -> Path:
    if keys is not None:
        return keys
    return Path(load_config(config).service.keys if config.is_file() else ServiceConfig().keys)


@app.command()
@needs_extra("serve")
def create(
    name: Annotated[str, typer.Option("--name", "-n", help="Owner of the key.")],
    scope: Annotated[str, typer.Option(help="read, compute or admin; each includes the ones before.")] = "read",
    days: Annotated[int | None, typer.Option(help="Days until it expires; default: never.", min=1)] = None,
    requests_per_second: Annotated[
        float | None, typer.Option(help="Its own limit; default: the configuration's.", min=0.01)
    ] = None,
    keys: KeysOption = None,
    config: ConfigOption = DEFAULT_CONFIG,
    json: JsonOption = False,
) -> None:
    """Make an API key and show it once. Once a key exists, the service requires one.

    Example: [bold]tegakari keys create --name notebook --scope compute --days 90[/]
    """
    from tegakari.service.admission.keys import create_key

    if scope not in KEY_SCOPES:
        raise ConfigError(f"{scope!r} is no scope", field="--scope", fix=f"use one of: {', '.join(KEY_SCOPES)}")
    file = _file(keys, config)
    key, record = create_key(file, name, cast(KeyScope, scope), days=days, requests_per_second=requests_per_second)
    if json:
        print_json(NewKey(**msgspec.structs.asdict(record), key=key))
        return
    out.print(key, soft_wrap=True, highlight=False, markup=False)  # whole: it is copied
    print_text(f"{file} stores its hash; the key is not shown again", console=err)


@app.command("list")
@needs_extra("serve")
def list_keys(keys: KeysOption = None, config: ConfigOption = DEFAULT_CONFIG, json: JsonOption = False) -> None:
    """List the keys, without their secrets.

    Example: [bold]tegakari keys list[/]
    """
    from tegakari.service.admission.keys import read_keys

    file = _file(keys, config)
    columns = ("id", "name", "scope", "created", "expires", "requests_per_second")
    print_list(read_keys(file), columns, title=f"Keys in {file}", json=json)


@app.command()
@needs_extra("serve")
def revoke(
    id_: Annotated[str, typer.Argument(metavar="ID", help="The key's id, as `tegakari keys list` shows it.")],
    keys: KeysOption = None,
    config: ConfigOption = DEFAULT_CONFIG,
    json: JsonOption = False,
) -> None:
    """Revoke a key. A running service refuses it within two seconds.

    Example: [bold]tegakari keys revoke 1a2b3c4d[/]
    """
    from tegakari.service.admission.keys import revoke_key

    key = revoke_key(_file(keys, config), id_)
    if json:
        print_json(key)
        return
    print_text(f"revoked {key.id} ({key.name})")
