"""Claims of jobs: which server of a store computes a job, and alone writes its state.

`jobs/claims/<job>/<replica>` is an empty file. Every change of owner is one rename, which one of several servers wins,
on any file system and without locks.
"""

from __future__ import annotations

import shutil
from contextlib import suppress
from pathlib import Path

from tegakari.store.disk.durable import random_suffix
from tegakari.store.disk.layout import claims_directory, entries
from tegakari.store.disk.replica_leases import remove_empty

_ATTEMPTS = 10


class JobClaims:
    """The claims of a store. Used from any thread."""

    def __init__(self, store: Path) -> None:
        """Read nothing yet.

        Args:
            store: the store's directory.
        """
        self._directory = claims_directory(store)

    def take(self, job: str, replica: str) -> bool:
        """Claim a job that nobody has claimed; whether that succeeded.

        Raises:
            OSError: the store cannot be written.
        """
        for attempt in range(_ATTEMPTS):
            staged = self._directory / f".{random_suffix()}"
            try:
                staged.mkdir(parents=True)
                (staged / replica).touch()
                staged.rename(self._directory / job)  # onto nothing, or an empty directory
                return True
            except FileNotFoundError:  # a server that ended has removed the directory, which was empty
                if attempt == _ATTEMPTS - 1:
                    raise
            except OSError:
                shutil.rmtree(staged, ignore_errors=True)
                if self.owner(job) is None:
                    raise
                return False
        return False

    def owner(self, job: str) -> str | None:
        """The server that has claimed a job; None: nobody has."""
        if not job.isalnum():
            return None
        try:
            return next((entry.name for entry in (self._directory / job).iterdir()), None)
        except OSError:
            return None

    def pass_on(self, job: str, owner: str, replica: str) -> bool:
        """Give the claim of a server to another; False: the server has it no more, because somebody was faster."""
        directory = self._directory / job
        try:
            (directory / owner).rename(directory / replica)
        except OSError:
            return False
        return True

    def release(self, job: str, replica: str) -> None:
        """Give up the claim of a server, if it has it."""
        directory = self._directory / job
        with suppress(OSError):
            (directory / replica).unlink()
        with suppress(OSError):
            directory.rmdir()
        remove_empty(self._directory)

    def owners(self) -> dict[str, str]:
        """The servers that have claimed jobs, by job."""
        jobs = [entry.name for entry in entries(self._directory) if not entry.name.startswith(".")]
        return {job: owner for job in jobs if (owner := self.owner(job)) is not None}
