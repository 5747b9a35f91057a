"""The other side of `benchmarks.peer`: what runs in the peer's interpreter. Imports nothing of tegakari."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any


def serve(version: str, turn: Callable[[str], Any]) -> None:
    """Say the version, then answer each line of standard input. Whatever else is printed goes to standard error."""
    answers, sys.stdout = sys.stdout, sys.stderr
    for answer in _answers(version, turn):
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def _answers(version: str, turn: Callable[[str], Any]):  # noqa: ANN202
    yield version
    for line in sys.stdin:
        yield turn(line.strip())
