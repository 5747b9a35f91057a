"""The other side of `benchmarks.peer`: what runs in the peer's interpreter. Imports nothing of tegakari."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any


def serve(prepare: Callable[[], tuple[str, Callable[[str], Any]]]) -> None:
    """Prepare, say the version, then answer each line of standard input.

    Args:
        prepare: returns the version and what answers. All that it or the answering prints goes to standard error.
    """
    answers, sys.stdout = sys.stdout, sys.stderr

    def say(answer: Any) -> None:
        answers.write(json.dumps(answer) + "\n")
        answers.flush()

    version, turn = prepare()
    say(version)
    for line in sys.stdin:
        say(turn(line.strip()))
