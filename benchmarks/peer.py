"""A library under comparison, in a process and an environment of its own, that waits for requests."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any


class Peer:
    """A program that writes its version, then one JSON object per line of input."""

    def __init__(self, python: Path, module: str, arguments: Sequence[object]) -> None:
        """Start the program and wait until it is ready.

        Raises:
            RuntimeError: the program ended; its standard error shows why.
        """
        command = [str(python), "-m", module, *map(str, arguments)]
        self._command = command
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.version = str(self._read())

    def request(self, line: str = "") -> Any:
        """Send a line of input; returns the program's JSON object."""
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()
        return self._read()

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()

    def _read(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"{' '.join(self._command)} ended with {self._process.wait()}")
        return json.loads(line)
