"""A run whose models are on this machine, indexed for real."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from litestar.testing import TestClient

from tegakari.store import Run
from tests.support.small_case import SmallCase


class LiveCase(NamedTuple):
    """A store, its one run, and what that was made of."""

    store: Path
    run: Run
    client: TestClient
    texts: dict[str, str]
    """of the indexed documents, by id"""
    case: SmallCase
