"""Versions of the programs that computed a result, recorded with it."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version

from tegakari.version import __version__

_RECORDED_PACKAGES = ("torch", "transformers", "triton", "numba", "numpy", "duckdb", "pyarrow", "lancedb")


def recorded_versions() -> dict[str, str]:
    """Versions of tegakari, Python and the installed packages that results depend on, by name."""
    versions = {"tegakari": __version__, "python": platform.python_version()}
    for package in _RECORDED_PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return versions
