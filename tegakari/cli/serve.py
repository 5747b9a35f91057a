"""`tegakari serve`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, get_args

import msgspec
import typer

from tegakari.cli.bucket_runs import open_bucket
from tegakari.cli.options import (
    DEFAULT_CONFIG,
    ConfigOption,
    DirectoryOrBucketOption,
    is_bucket,
    store_directory,
    store_name,
)
from tegakari.extras import needs_extra
from tegakari.schemas.config import LogFormat, ServiceConfig, load_config
from tegakari.schemas.errors import ConfigError


@needs_extra("serve")
def serve(
    config: ConfigOption = DEFAULT_CONFIG,
    store: DirectoryOrBucketOption = None,
    cache: Annotated[
        Path | None, typer.Option(help="Directory for the copies of a bucket's runs; needed with s3://...")
    ] = None,
    cache_gb: Annotated[
        float | None, typer.Option(help="Size of the cache in GB (10^9 bytes); default: the disk.", min=0.001)
    ] = None,
    poll_seconds: Annotated[
        float, typer.Option(help="Time between two looks at a bucket for new and deleted runs.", min=0.1)
    ] = 30,
    host: Annotated[str | None, typer.Option(help="Address to bind; default: the configuration's.")] = None,
    port: Annotated[
        int | None, typer.Option(help="Port; default: the configuration's.", envvar="TEGAKARI_PORT")
    ] = None,
    workers: Annotated[int | None, typer.Option(help="Processes; default: the configuration's.", min=1)] = None,
    keys: Annotated[Path | None, typer.Option(help="File of API keys; default: the configuration's.")] = None,
    log: Annotated[str | None, typer.Option(help="text, json or off; default: the configuration's.")] = None,
    preload: Annotated[
        list[str] | None,
        typer.Option(help="Run whose models are loaded at the start; repeatable. Default: the configuration's."),
    ] = None,
    mcp: Annotated[
        bool | None,
        typer.Option(
            "--mcp/--no-mcp", help="Tools for agents at /mcp; default: the configuration's.", show_default=False
        ),
    ] = None,
    insecure: Annotated[
        int,
        typer.Option(
            "--insecure",
            count=True,
            help="Allow an address that other machines reach, without keys; give it twice for all addresses (0.0.0.0).",
        ),
    ] = 0,
) -> None:
    """Serve the store's REST API. The runs of a bucket are copied to a cache.

    Example: [bold]tegakari serve --store store --port 8765[/]
    """
    from tegakari.service.process.server import serve as run

    service = load_config(config).service if Path(config).is_file() else ServiceConfig()
    if log is not None and log not in get_args(LogFormat):
        raise ConfigError(
            f"{log!r} is not a format", field="--log", fix=f"use one of: {', '.join(get_args(LogFormat))}"
        )
    settings = {
        "host": host,
        "port": port,
        "workers": workers,
        "keys": keys and str(keys),
        "log": log,
        "preload": preload or None,
        "mcp": mcp,
    }
    changes = {key: value for key, value in settings.items() if value is not None}
    service = msgspec.structs.replace(service, **changes)
    name = store_name(store, config)
    if not is_bucket(name):
        if cache is not None or cache_gb is not None:
            raise ConfigError(
                f"{name} is no bucket", field="--cache", fix="name a bucket, as --store s3://bucket/prefix"
            )
        run(service, store_directory(store, config), insecure=insecure)
        return
    if cache is None:
        raise ConfigError("a bucket needs a directory for copies", field="--cache", fix="give --cache DIRECTORY")
    bucket = open_bucket(name)
    from tegakari.store.objects.cache import Cache, CacheSettings

    max_bytes = None if cache_gb is None else int(cache_gb * 10**9)
    kept = Cache(bucket, CacheSettings(cache, max_bytes, poll_seconds))
    run(service, cache, insecure=insecure, cache=kept)
