"""`tegakari serve`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec
import typer

from tegakari.cli.options import DEFAULT_CONFIG, ConfigOption, StoreOption, store_directory
from tegakari.schemas.config import ServiceConfig, load_config


def register(app: typer.Typer) -> None:
    app.command("serve")(serve)


def serve(
    config: ConfigOption = DEFAULT_CONFIG,
    store: StoreOption = None,
    host: Annotated[str | None, typer.Option(help="Address to bind; default: the configuration's.")] = None,
    port: Annotated[
        int | None, typer.Option(help="Port; default: the configuration's.", envvar="TEGAKARI_PORT")
    ] = None,
    insecure: Annotated[bool, typer.Option(help="Allow an address that other machines reach, without keys.")] = False,
) -> None:
    """Serve the store's REST API.

    Example: [bold]tegakari serve --store store --port 8765[/]
    """
    from tegakari.service.server import serve as run

    service = load_config(config).service if Path(config).is_file() else ServiceConfig()
    changes = {key: value for key, value in (("host", host), ("port", port)) if value is not None}
    run(msgspec.structs.replace(service, **changes), store_directory(store, config), insecure=insecure)
