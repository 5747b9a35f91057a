"""Child processes: their search path for modules, and their end."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path


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


def end_with_parent(signal_number: signal.Signals = signal.SIGTERM) -> None:
    """Send this child process a signal once its parent process has ended, even if the parent was killed.

    Args:
        signal_number: SIGTERM to finish its work, SIGKILL to end at once.
    """
    import multiprocessing  # not for every command that sets the search path

    parent = multiprocessing.parent_process()
    assert parent is not None

    def wait() -> None:
        parent.join()
        os.kill(os.getpid(), signal_number)

    threading.Thread(target=wait, name="parent", daemon=True).start()
