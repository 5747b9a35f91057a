"""The command line's server in a process of its own."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple


class KeyedServer(NamedTuple):
    """A server that requires keys."""

    host: str
    port: int
    read_key: str
    compute_key: str


@contextmanager
def serving(*arguments: str | Path) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """`tegakari serve` on a free port: its address, and the process, which is killed at the end if it still runs."""
    command = [sys.executable, "-c", "from tegakari.cli import main; main()", "serve", "--port", "0"]
    with subprocess.Popen([*command, *map(str, arguments)], stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            lines = []
            for line in process.stderr:
                lines.append(line)
                if match := re.search(r'url"?[=:] ?"?(http://[^\s"]+)', line):
                    break
            else:
                raise AssertionError("".join(lines))
            yield match[1], process
        finally:
            process.kill()
