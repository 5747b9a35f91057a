"""Versions that a result records of what made it."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version

from tegakari.version import __version__

_RECORDED_PACKAGES = ("torch", "transformers", "triton", "numba", "numpy", "duckdb", "pyarrow", "lancedb")


def recorded_versions() -> dict[str, str]:
    """tegakari, Python, and the packages that results depend on, as far as they are installed."""
    found = {"tegakari": __version__, "python": platform.python_version()}
    for package in _RECORDED_PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
