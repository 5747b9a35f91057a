"""A run whose models are on this machine, indexed from them."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from litestar.testing import TestClient

from tegakari.store import Run
from tests.support.small_case import SmallCase


class LiveCase(NamedTuple):
    """A store with one run, and the inputs of the run."""

    store: Path
    run: Run
    client: TestClient
    texts: dict[str, str]
    """of the indexed documents, by id"""
    case: SmallCase
