"""Child processes."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading


def end_with_parent(signal_number: signal.Signals = signal.SIGTERM) -> None:
    """Send this child process a signal once its parent process has ended, even if the parent was killed.

    Args:
        signal_number: SIGTERM to finish its work, SIGKILL to end at once.
    """
    parent = multiprocessing.parent_process()
    assert parent is not None

    def wait() -> None:
        parent.join()
        os.kill(os.getpid(), signal_number)

    threading.Thread(target=wait, name="parent", daemon=True).start()
