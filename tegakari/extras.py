"""Extras of the package, and the one to install when an import fails."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import ParamSpec, TypeVar

from tegakari.schemas.errors import MissingExtraError

P = ParamSpec("P")
T = TypeVar("T")

EXTRA_OF = {
    "duckdb": "store",
    "lancedb": "store",
    "numpy": "store",
    "obstore": "s3",
    "pyarrow": "store",
    "structlog": "store",
    "xlsxwriter": "store",
    "mcp": "mcp",
    "mcp_types": "mcp",
    "litestar": "serve",
    "markdown_it": "serve",
    "prometheus_client": "serve",
    "uvicorn": "serve",
    "accelerate": "index",
    "numba": "index",
    "safetensors": "index",
    "sklearn": "index",
    "tokenizers": "index",
    "torch": "index",
    "transformers": "index",
    "jinja2": "study",
    "matplotlib": "study",
    "ray": "ray",
}
"""Import name of a package -> the smallest extra that brings it."""


@contextmanager
def extras_named(extra: str | None = None) -> Iterator[None]:
    """Turn a failed import of an extra's package into an error that names the extra.

    Args:
        extra: the extra that the block needs; None: the smallest one with the missing package.

    Raises:
        MissingExtraError: naming the package and the extra.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in EXTRA_OF:
            raise
        name = f"tegakari[{extra or EXTRA_OF[package]}]"
        raise MissingExtraError(f"{package} is not installed", field=name, fix=f"pip install '{name}'") from error


def needs_extra(extra: str) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Decorate a command whose packages are in an extra: where they are not installed, it names the extra."""

    def decorate(command: Callable[P, T]) -> Callable[P, T]:
        @wraps(command)
        def wrapper(*args: P.args, **kwargs: P.kwargs) -> T:
            with extras_named(extra):
                return command(*args, **kwargs)

        return wrapper

    return decorate
