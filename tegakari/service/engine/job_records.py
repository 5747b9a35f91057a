"""What a server writes about its jobs: claims and states, and their handing over to another server."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import structlog

from tegakari.schemas.analysis_kinds import KNOCKOUT_ANALYSIS
from tegakari.schemas.jobs import FINAL, KnockoutJob
from tegakari.service.engine.job_states import JobStates
from tegakari.store.disk.job_claims import JobClaims
from tegakari.store.disk.job_files import JobFiles, Retention
from tegakari.store.disk.replica_leases import Message, ReplicaLease
from tegakari.store.results import analysis_by_key

COLLECTION_SECONDS = 60.0
"""Time between two removals of old states."""

CLAIM_ATTEMPTS = 10

log = structlog.get_logger()


class JobRecords:
    """Claims and states of the jobs of this server. Its methods are called one after the other, in a thread."""

    def __init__(
        self,
        store: Path,
        *,
        files: JobFiles,
        claims: JobClaims,
        lease: ReplicaLease,
        states: JobStates,
        retention: Retention,
    ) -> None:
        """Write nothing yet.

        Args:
            store: the store's directory.
            files: states.
            claims: who computes which job.
            lease: of this server.
            states: of all jobs.
            retention: what is kept of jobs that have ended.
        """
        self._store = store
        self._files = files
        self._claims = claims
        self._lease = lease
        self._states = states
        self._retention = retention
        self._collected = 0.0

    def claim(self, id_: str, join: Callable[[], None]) -> str | None:
        """Claim a job, so that no other server computes it.

        Args:
            id_: of the job.
            join: takes the lease of this server, if it has none yet.

        Returns:
            the server that has it already; None: this one has it now, or the store cannot be written.
        """
        try:
            join()
            for _ in range(CLAIM_ATTEMPTS):
                if self._claims.take(id_, self._lease.replica):
                    return None
                if owner := self._states.owner(id_):
                    return owner
                self._states.interrupt(id_)
        except OSError as error:
            log.warning("job not claimed: other servers do not know of it", id=id_, reason=error.strerror)
        return None

    def write(self, job: KnockoutJob) -> bool:
        """Write the state of a job; whether a reader of the store finds it. Results lie with the analyses.

        Once a job has ended it is no longer claimed.
        """
        me = self._lease.replica
        if self._claims.owner(job.id) not in (None, me):
            return True  # another server computes it by now
        try:
            if job.state == "done":
                self._files.remove(job.id)
                return analysis_by_key(self._store, KNOCKOUT_ANALYSIS, job.id) is not None
            self._files.write(job)
        except OSError as error:
            log.warning("job not stored", id=job.id, reason=error.strerror)
            return False
        finally:
            if job.state in FINAL:
                self._claims.release(job.id, me)
        if job.state in FINAL and time.monotonic() - self._collected > COLLECTION_SECONDS:
            self.collect()
        return True

    def release(self, id_: str) -> None:
        """Give up the claim of a job that leaves no trace."""
        self._claims.release(id_, self._lease.replica)

    def hand_over(self, id_: str, replica: str, content: bytes) -> bool:
        """Give the claim of a job to another server and tell it so; whether that succeeded."""
        me = self._lease.replica
        if not self._claims.pass_on(id_, me, replica):
            return False
        try:
            self._lease.send(replica, Message("take", id_, content))
        except OSError:  # it has just ended
            self._claims.pass_on(id_, replica, me)
            return False
        return True

    def collect(self) -> None:
        """Remove old states."""
        self._collected = time.monotonic()
        for path in self._files.expired(self._retention):
            with suppress(OSError):
                path.unlink(missing_ok=True)
