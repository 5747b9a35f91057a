"""A connection to a Ray cluster."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import chdir, contextmanager

from tegakari.schemas.errors import ConfigError


@contextmanager
def connected(address: str) -> Iterator[None]:
    """Be a driver of a running cluster during the block; a process that is one already stays one.

    Nothing is started: a local `ray.init()` would listen on all interfaces of the machine.

    Args:
        address: HOST:PORT of the head, or `auto` for the cluster of this node.

    Raises:
        ConfigError: there is no cluster, or it does not let this process in.
    """
    import ray  # pyright: ignore[reportMissingImports]

    if ray.is_initialized():
        yield
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        with chdir("/"):  # Ray lets workers import modules from the driver's working directory
            ray.init(address, log_to_driver=True, logging_level="WARNING")
    except (ConnectionError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        raise ConfigError(
            f"{address!r} is not a Ray cluster that can be used: {_first_line(error)}",
            field="--ray",
            fix="name HOST:PORT of `ray start --head`, with the RAY_AUTH_MODE and the token of the cluster",
        ) from error
    try:
        yield
    finally:
        ray.shutdown()


def resources() -> str:
    """CPUs and GPUs of the cluster in words."""
    import ray  # pyright: ignore[reportMissingImports]

    total, free = ray.cluster_resources(), ray.available_resources()
    counts = (f"{free.get(kind, 0):g} of {total.get(kind, 0):g} {kind}s are free" for kind in ("CPU", "GPU"))
    return ", ".join(counts)


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__
