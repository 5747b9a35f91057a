"""Index once per line of standard input, in a fork of a process with all imports done, which a test can kill.

A line is the path of a configuration file; the replies are the process id of the fork and, at its end, its status.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import torch

from tegakari.indexer.pipeline import index
from tegakari.schemas.config import load_config
from tegakari.store import vectors


def reply(number: int) -> None:
    sys.stdout.write(f"{number}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    torch.set_num_threads(1)  # threads do not survive a fork
    if vectors.available():
        # Lance starts threads as soon as it is imported.
        vectors.available = lambda: False
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # keep logs out of the replies
            index(load_config(Path(line.strip())))
            os._exit(0)
        reply(child)
        _, status = os.waitpid(child, 0)
        reply(status)
