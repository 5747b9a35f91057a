"""Index once for each line on standard input, in a fork of a process that has everything imported: `kill` it any time.

A line names a configuration file; the answer is the process id of the fork, then, when it has ended, its exit status.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import torch

from tegakari.indexer.pipeline import index
from tegakari.schemas.config import load_config
from tegakari.store import vectors


def answer(number: int) -> None:
    sys.stdout.write(f"{number}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    torch.set_num_threads(1)  # threads do not survive a fork
    if vectors.available():
        # Lance has threads of its own as soon as it is imported.
        vectors.available = lambda: False
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # logs are no answers
            index(load_config(Path(line.strip())))
            os._exit(0)
        answer(child)
        _, status = os.waitpid(child, 0)
        answer(status)
