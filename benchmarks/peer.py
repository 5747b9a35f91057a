"""A library that runs in a process and an environment of its own, and waits there for its turn."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any


class Peer:
    """A program that answers its first line with its version and each further one with one JSON object."""

    def __init__(self, python: Path, module: str, arguments: Sequence[object]) -> None:
        """Start it and wait until it is ready.

        Raises:
            RuntimeError: it ended; what went wrong stands above, on standard error.
        """
        command = [str(python), "-m", module, *map(str, arguments)]
        self._command = command
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.version = str(self._answer())

    def ask(self, question: str = "") -> Any:
        """Give it its turn; what it says of it."""
        assert self._process.stdin is not None
        self._process.stdin.write(question + "\n")
        self._process.stdin.flush()
        return self._answer()

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"{' '.join(self._command)} ended with {self._process.wait()}")
        return json.loads(line)
