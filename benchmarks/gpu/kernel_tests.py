"""The tests of the kernels on a card, in a process of their own; their failures are printed."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
TESTS = ("tests/kernels", "tests/indexer/test_drawn_pairs.py", "tests/indexer/training/saes")
SECONDS = 120
"""The tests compile many kernels; those that have not run by then are not counted."""


def measure(_smoke: bool = False) -> dict[str, float]:
    """Numbers of tests that passed and failed."""
    command = [sys.executable, "-m", "pytest", "-q", "--tb=short", "-p", "no:cacheprovider", *TESTS]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        try:
            output, _ = process.communicate(timeout=SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            output, _ = process.communicate()
    sys.stdout.write(output[-4000:] + "\n")
    progress = "".join(re.findall(r"^([.FEsx]+)", output, re.MULTILINE))
    return {"tests_passed": progress.count("."), "tests_failed": progress.count("F") + progress.count("E")}
