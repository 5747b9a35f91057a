"""Jobs of the other servers of a store, as one server follows them, cancels them, gives them away and is given them."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path

import msgspec

from tegakari.schemas.decoding import decode_json
from tegakari.schemas.jobs import FINAL, KnockoutJob
from tegakari.service.engine.active_jobs import ActiveJob, Knockout
from tegakari.service.engine.job_states import JobStates
from tegakari.service.engine.knockout_requests import requested_knockout
from tegakari.store.cached import open_store
from tegakari.store.disk.job_files import JobFiles
from tegakari.store.disk.replica_leases import Message, ReplicaLease

FOLLOW_SECONDS = 0.5
"""Time between two looks at the progress of a job of another server, which reads files."""

CANCEL_SECONDS = 10.0
"""Time for which a request that cancels a job of another server waits for its end."""

CLAIM_SECONDS = 0.1
"""Time between two attempts to claim a job of a dead server that is being interrupted."""


class HandOver(msgspec.Struct, frozen=True):
    """What a server tells the one that it hands a job over to, beside the job's state."""

    client: str
    handovers: int


class OtherServers:
    """The other servers of a store. Used from one event loop."""

    def __init__(self, store: Path, files: JobFiles, lease: ReplicaLease, states: JobStates) -> None:
        """Read nothing yet.

        Args:
            store: the store's directory.
            files: states of jobs.
            lease: of this server.
            states: of the jobs of all servers.
        """
        self.given: dict[str, HandOver] = {}
        """jobs that others have handed over to this server, by id, until it has begun them"""
        self._store = store
        self._files = files
        self._lease = lease
        self._states = states

    async def follow(self, active: ActiveJob, owner: str) -> KnockoutJob | None:
        """Show the progress of a job of another server until it has ended.

        Args:
            active: the job as this server has it.
            owner: the server that computes it.

        Returns:
            its last state; None: it was refused there, or handed over to this server.
        """
        id_ = active.job.id
        before = await asyncio.to_thread(self._files.read, id_)
        if owner == self._lease.replica:  # which interrupts it for a dead one at this moment
            await asyncio.sleep(CLAIM_SECONDS)
            return None
        with suppress(OSError):  # it has ended meanwhile
            await asyncio.to_thread(self._lease.send, owner, Message("keep", id_))
        while progress := await asyncio.to_thread(self._states.progress, id_):
            active.show(progress)
            await asyncio.sleep(FOLLOW_SECONDS)
        if id_ in self.given:
            return None
        job = await asyncio.to_thread(self._states.find, id_)
        return None if job is None or job.state not in FINAL or job == before else job

    async def cancel(self, id_: str) -> None:
        """Let the server that computes a job cancel it, and wait for its end, CANCEL_SECONDS at most."""
        owner = await asyncio.to_thread(self._states.owner, id_)
        if owner is None or owner == self._lease.replica:
            return
        with suppress(OSError):  # it has ended meanwhile
            await asyncio.to_thread(self._lease.send, owner, Message("cancel", id_))
        with suppress(TimeoutError):
            async with asyncio.timeout(CANCEL_SECONDS):
                while await asyncio.to_thread(self._states.progress, id_) is not None:
                    await asyncio.sleep(CLAIM_SECONDS)

    def receivers(self) -> dict[str, int]:
        """Servers that can be given jobs, with the number of those that they have. Reads files."""
        return {replica: len(record.jobs) for replica, record in self._lease.others().items() if not record.draining}

    def receive(self, message: Message) -> None:
        """Note that this server was given a job: its claim is this server's already.

        Raises:
            msgspec.DecodeError: the message is damaged.
        """
        self.given[message.job] = decode_json(message.content, HandOver)

    def requested(self, job: KnockoutJob) -> Knockout:
        """The knockout of a job that this server was given. Reads files.

        Raises:
            TegakariError: it cannot be computed here.
        """
        run = open_store(self._store).run(job.run)
        return requested_knockout(run, self._store, job.settings)
