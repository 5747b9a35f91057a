"""Length of the soak tests: seconds in `make test`, minutes in `make soak`."""

from __future__ import annotations

import os

import pytest

SOAK = os.environ.get("TEGAKARI_SOAK") == "1"

KILLS = 100 if SOAK else 6
"""Number of kill -9 at random moments of index and publish."""

READING_SECONDS = 60 if SOAK else 4
"""Duration of reading beside publications and deletions."""

only_in_a_soak = pytest.mark.skipif(not SOAK, reason="long; `make soak` runs it")
