"""A server as one of the replicas of its store: renews its lease, receives messages, looks for jobs of dead ones."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping

import structlog

from tegakari.schemas.jobs import JobProgress
from tegakari.service.engine.job_states import JobStates
from tegakari.store.disk.replica_leases import LEASE_SECONDS, RENEWAL_SECONDS, Message, ReplicaLease

MESSAGE_SECONDS = 0.25
"""Time between two looks for messages."""

log = structlog.get_logger()


class Replica:
    """Keeps the lease of this server in a thread, which goes on where the event loop is held up."""

    def __init__(
        self,
        lease: ReplicaLease,
        states: JobStates,
        *,
        progress: Callable[[], Mapping[str, JobProgress]],
        on_message: Callable[[Message], None],
        on_loss: Callable[[], None],
    ) -> None:
        """Start nothing.

        Args:
            lease: of this server.
            states: of all jobs.
            progress: of the jobs of this server, by id.
            on_message: called in the thread with each message.
            on_loss: called in the thread if other servers took this one for dead.
        """
        self.draining = False
        self._lease = lease
        self._states = states
        self._progress = progress
        self._on_message = on_message
        self._on_loss = on_loss
        self._stopping = threading.Event()
        self._starting = threading.Lock()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Take the lease, unless it is taken.

        Raises:
            OSError: the store cannot be written.
        """
        with self._starting:
            if self._thread is None:
                self._lease.take()
                self._thread = threading.Thread(target=self._run, name="replica", daemon=True)
                self._thread.start()

    def stop(self) -> None:
        """Release the lease."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()
        self._lease.release()

    def _run(self) -> None:
        renewed = swept = time.monotonic()
        while not self._stopping.wait(MESSAGE_SECONDS):
            try:
                for message in self._lease.receive():
                    self._on_message(message)
                now = time.monotonic()
                if now - renewed >= RENEWAL_SECONDS:
                    self._lease.renew(self._progress(), draining=self.draining)
                    renewed = now
                if now - swept >= LEASE_SECONDS:
                    self._states.interrupt_abandoned()
                    swept = now
            except FileNotFoundError:
                log.warning("other servers took this one for dead", server=self._lease.replica)
                self._on_loss()
                self._retake()
            except RuntimeError:  # the event loop is closed: nobody has stopped this server in order
                break
            except OSError as error:
                log.warning("lease not renewed", server=self._lease.replica, reason=error.strerror)

    def _retake(self) -> None:
        self._lease.forget()
        try:
            self._lease.take()
        except OSError as error:
            log.warning("lease not taken", reason=error.strerror)
