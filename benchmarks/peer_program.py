"""Loop of a program that `benchmarks.peer` starts in the peer's interpreter. Imports nothing of tegakari."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any


def serve(prepare: Callable[[], tuple[str, Callable[[str], Any]]]) -> None:
    """Prepare, write the version, then write one result per line of standard input.

    Args:
        prepare: returns the version and the function from a line to its result. Their prints go to standard error.
    """
    results, sys.stdout = sys.stdout, sys.stderr

    def write(result: Any) -> None:
        results.write(json.dumps(result) + "\n")
        results.flush()

    version, turn = prepare()
    write(version)
    for line in sys.stdin:
        write(turn(line.strip()))
