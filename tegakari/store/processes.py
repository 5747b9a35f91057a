"""Child processes: their search path for modules, and their end."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

_PR_SET_PDEATHSIG = 1
"""Of Linux' prctl(2)."""


def keep_working_directory_off_path() -> None:
    """Let no child of this process import modules from the working directory.

    Python puts the working directory first on the search path of a child that it starts with `-c` or `-m`, as
    `multiprocessing` does: a file `selectors.py` beside a downloaded store would run. The rest of this process's search
    path reaches the child through `multiprocessing`.
    """
    os.environ["PYTHONSAFEPATH"] = "1"


def absolute_entries(search_path: str) -> str:
    """A search path, such as PYTHONPATH, without relative directories; an empty entry is the working directory."""
    return os.pathsep.join(entry for entry in search_path.split(os.pathsep) if Path(entry).is_absolute())


def die_with_parent(parent: int, signal_number: signal.Signals = signal.SIGKILL) -> None:
    """Let the kernel send this process a signal once its parent has ended, even if the parent was killed.

    Forks of this process do not inherit it.

    Args:
        parent: process id of the parent, which may have ended already.
        signal_number: SIGKILL to end at once; SIGTERM to finish its work.
    """
    import ctypes

    library = ctypes.CDLL(None, use_errno=True)
    if library.prctl(_PR_SET_PDEATHSIG, int(signal_number), 0, 0, 0):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    if os.getppid() != parent:  # it ended before the kernel was told
        os.kill(os.getpid(), signal_number)


def end_with_parent(signal_number: signal.Signals = signal.SIGTERM, *, seconds: float = 20) -> None:
    """Send a process of `multiprocessing` a signal once its parent process has ended, even if the parent was killed.

    Args:
        signal_number: SIGTERM to finish its work, SIGKILL to end at once.
        seconds: time to finish its work, after which it is killed.
    """
    import multiprocessing  # not for every command that sets the search path

    parent = multiprocessing.parent_process()
    assert parent is not None
    assert parent.pid is not None

    def wait() -> None:
        parent.join()
        os.kill(os.getpid(), signal_number)
        time.sleep(seconds)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=wait, name="parent", daemon=True).start()
    die_with_parent(parent.pid, signal_number)  # also while a long call in C keeps the thread from running
