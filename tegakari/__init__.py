"""tegakari: a feature store for sparse autoencoders over text classifiers.

    store = tegakari.open("store")                      # a directory; tegakari.connect("http://…") for a service
    run = store["demo-jpn"]
    run.label("自動車").features(variety="specific").to_pandas()

Everything in `__all__` is public; all other modules are private and may change in any release.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tegakari.version import __version__

if TYPE_CHECKING:
    from tegakari.access.document import Document
    from tegakari.access.feature import Feature
    from tegakari.access.label import Label
    from tegakari.access.rows import Rows
    from tegakari.access.run import Run
    from tegakari.access.store import Store
    from tegakari.client import ApiError, AsyncClient, Client, UnreachableError
    from tegakari.schemas.config import Config, load_config
    from tegakari.schemas.errors import TegakariError
    from tegakari.schemas.knockout import KnockoutSettings

_LOCATION = {
    "ApiError": "tegakari.client",
    "AsyncClient": "tegakari.client",
    "Client": "tegakari.client",
    "Config": "tegakari.schemas.config",
    "Document": "tegakari.access.document",
    "Feature": "tegakari.access.feature",
    "KnockoutSettings": "tegakari.schemas.knockout",
    "Label": "tegakari.access.label",
    "Rows": "tegakari.access.rows",
    "Run": "tegakari.access.run",
    "Store": "tegakari.access.store",
    "TegakariError": "tegakari.schemas.errors",
    "UnreachableError": "tegakari.client",
    "load_config": "tegakari.schemas.config",
}
"""Module of each public name. Modules are imported with the first use: `import tegakari` costs a millisecond."""

__all__ = [
    "ApiError",
    "AsyncClient",
    "Client",
    "Config",
    "Document",
    "Feature",
    "KnockoutSettings",
    "Label",
    "Rows",
    "Run",
    "Store",
    "TegakariError",
    "UnreachableError",
    "__version__",
    "connect",
    "load_config",
    "open",
]


def open(directory: str | Path, *, device: str = "auto") -> Store:
    """Open the store in a directory.

    Args:
        directory: the store's directory.
        device: where classifiers run for knockouts, `classify` and `encode`: auto, cpu, cuda or cuda:N.

    Raises:
        NotFoundError: there is no such directory.
        MissingExtraError: `tegakari[store]` is not installed.
    """
    from tegakari.access.store import Store
    from tegakari.extras import extras_named
    from tegakari.schemas.errors import NotFoundError

    if not Path(directory).is_dir():
        raise NotFoundError(f"no store at {directory}", field="directory", fix="give the store's directory")
    with extras_named("store"):
        from tegakari.access.local import LocalStore

        return Store(LocalStore(directory, device=device), str(directory))


def connect(url: str, *, key: str | None = None) -> Store:
    """The store of a service.

    Args:
        url: address of the service.
        key: API key; default: the environment variable TEGAKARI_KEY, if it is set.
    """
    from tegakari.access.store import Store
    from tegakari.client import Client

    return Store(Client(url, key=key), url)


def __getattr__(name: str) -> Any:
    if name in _LOCATION:
        return getattr(import_module(_LOCATION[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
