"""Child processes end with their parent."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

from tests.support.descendants import is_running

CHILD = """
import os, sys, time
from tegakari.store.processes import die_with_parent
time.sleep(float(sys.argv[2]))
die_with_parent(int(sys.argv[1]))
print(os.getpid(), flush=True)
while True:
    pass  # a call that never lets another thread run, as long ones in C
"""

PARENT = """
import os, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", sys.argv[1], str(os.getpid()), sys.argv[2]])
print(child.pid, flush=True)
time.sleep(60)
"""


def ends(pid: int) -> bool:
    """Whether a process ends within some seconds."""
    end = time.monotonic() + 10
    while is_running(pid) and time.monotonic() < end:
        time.sleep(0.02)
    return not is_running(pid)


def test_a_child_ends_when_its_parent_is_killed():
    with subprocess.Popen([sys.executable, "-c", PARENT, CHILD, "0"], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        assert int(parent.stdout.readline()) == child  # the child has told the kernel
        assert is_running(child)
        parent.kill()
        assert ends(child)


def test_a_child_whose_parent_ended_before_ends_as_well():
    with subprocess.Popen([sys.executable, "-c", PARENT, CHILD, "2"], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        parent.kill()
        assert is_running(child)
        try:
            assert ends(child)
        finally:
            if is_running(child):
                os.kill(child, signal.SIGKILL)
