"""Leases of replicas, the servers of one store: which of them live, how far their jobs are, and messages to them.

`jobs/replicas/<replica>/` belongs to one server from its start to its end. Where servers share a kernel, the lock of
that directory says whether its server lives: the kernel releases it with the process. Between machines the time of
`replica.json` says it, which the server writes anew all the time. Only times of the file system are compared: clocks of
machines differ.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import socket
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import msgspec

from tegakari.schemas.decoding import decode_json
from tegakari.schemas.jobs import JobProgress
from tegakari.store.disk.durable import bury, is_locked, random_suffix
from tegakari.store.disk.layout import entries, replicas_directory

RENEWAL_SECONDS = 1.0
"""Time between two renewals of a lease."""

LEASE_SECONDS = 30.0
"""Time without a renewal after which the server of a lease is dead, where its lock cannot be read."""

RECORD = "replica.json"

_BOOT = Path("/proc/sys/kernel/random/boot_id")
_ATTEMPTS = 10


class ReplicaRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What a server tells the others about itself."""

    host: str
    process: int
    locks: str
    """servers with the same value see each other's locks; empty: nobody sees those of this one"""
    draining: bool = False
    """whether it is being stopped, and takes no jobs"""
    jobs: dict[str, JobProgress] = {}
    """those that it computes, by id"""


class Message(NamedTuple):
    """A request of one server to another about a job."""

    kind: str
    """`cancel` it; `keep` it running, because a client of another server was told its id; `take` it over"""
    job: str
    content: bytes = b""


class ReplicaLease:
    """The lease of this server. Used from any thread; `take`, `renew` and `release` from one at a time."""

    def __init__(self, store: Path) -> None:
        """Take no lease yet.

        Args:
            store: the store's directory.
        """
        self.replica = random_suffix()
        self._store = store
        self._lock: int | None = None
        self._locks = ""
        self._renewed = 0.0
        self._judges_from = float("inf")

    @property
    def taken(self) -> bool:
        return self._lock is not None

    def take(self) -> None:
        """Make the directory of this server, under a new id.

        Raises:
            OSError: the store cannot be written.
        """
        self.replica = random_suffix()
        directory = self._directory(self.replica)
        staged = directory.with_name(f".{self.replica}")
        _make(staged)
        lock = os.open(staged, os.O_RDONLY)
        try:
            self._locks = _lock(lock)
            self._write(staged, {}, draining=False)
            staged.rename(directory)  # others see it once it is locked
        except OSError:
            os.close(lock)
            shutil.rmtree(staged, ignore_errors=True)
            raise
        self._lock = lock
        self._renewed = _time_of(directory / RECORD) or 0.0
        self._judges_from = self._renewed + LEASE_SECONDS

    def renew(self, jobs: Mapping[str, JobProgress], *, draining: bool = False) -> None:
        """Tell the others that this server lives, and how far its jobs are.

        Raises:
            FileNotFoundError: they took it for dead, and what it had claimed from it.
            OSError: the store cannot be written.
        """
        directory = self._directory(self.replica)
        self._write(directory, jobs, draining=draining)
        now = _time_of(directory / RECORD) or self._renewed
        if now - self._renewed > LEASE_SECONDS / 2:  # a stall of the disk, or of this machine: it may be that of all
            self._judges_from = now + LEASE_SECONDS
        self._renewed = now

    def release(self) -> None:
        """Remove the directory of this server, and those above if nothing is in them."""
        if self._lock is None:
            return
        with suppress(OSError):
            bury(self._directory(self.replica))
        os.close(self._lock)
        self._lock = None
        remove_empty(replicas_directory(self._store))

    def forget(self) -> None:
        """Drop a lease that others have taken away."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def lives(self, replica: str) -> bool:
        """Whether a server lives; in doubt it does.

        A server of another machine is judged by the time of this one's last renewal, once this one has renewed its
        lease without a pause for LEASE_SECONDS: until then the others may just not have had the chance.
        """
        if replica == self.replica:
            return True
        directory = self._directory(replica)
        try:
            record, written = _read(directory)
            if record is not None and record.locks and record.locks == (self._locks or _shared_locks(directory)):
                return is_locked(directory)
        except FileNotFoundError:
            return False
        except OSError:
            return True
        return self._renewed < self._judges_from or self._renewed - written <= LEASE_SECONDS

    def others(self) -> dict[str, ReplicaRecord]:
        """The other servers that live, by id."""
        records: dict[str, ReplicaRecord] = {}
        for entry in entries(replicas_directory(self._store)):
            if not entry.name.startswith(".") and entry.name != self.replica and self.lives(entry.name):
                record = _record(entry)
                records |= {entry.name: record} if record else {}
        return records

    def bury_dead(self) -> None:
        """Remove the directories of dead servers, and what killed ones have left unfinished."""
        for entry in entries(replicas_directory(self._store)):
            if entry.name.startswith("."):
                if self._renewed >= self._judges_from and self._renewed - (_time_of(entry) or 0.0) > LEASE_SECONDS:
                    shutil.rmtree(entry, ignore_errors=True)
            elif not self.lives(entry.name):
                with suppress(OSError):
                    bury(entry)

    def receive(self) -> list[Message]:
        """Messages to this server; they are removed."""
        messages = []
        for entry in entries(self._directory(self.replica)):
            kind, _, job = entry.name.partition("-")
            if not job or entry.name.startswith("."):
                continue
            with suppress(OSError):
                messages.append(Message(kind, job, entry.read_bytes()))
                entry.unlink()
        return messages

    def send(self, replica: str, message: Message) -> None:
        """Send a message to another server.

        Raises:
            OSError: it has ended, or the store cannot be written.
        """
        directory = self._directory(replica)
        temporary = directory / f".{random_suffix()}"
        temporary.write_bytes(message.content)
        temporary.rename(directory / f"{message.kind}-{message.job}")

    def _directory(self, replica: str) -> Path:
        return replicas_directory(self._store) / replica

    def _write(self, directory: Path, jobs: Mapping[str, JobProgress], *, draining: bool) -> None:
        # Not flushed to the disk: after a crash of the machine the server is dead as well.
        record = ReplicaRecord(
            host=socket.gethostname(), process=os.getpid(), locks=self._locks, draining=draining, jobs=dict(jobs)
        )
        temporary = directory / f".{RECORD}"
        temporary.write_bytes(msgspec.json.encode(record))
        temporary.rename(directory / RECORD)


def job_progress(store: Path, replica: str, job: str) -> JobProgress | None:
    """Progress of a job of a server; None: the server does not tell it, or not yet."""
    record = _record(replicas_directory(store) / replica)
    return record.jobs.get(job) if record else None


def all_progress(store: Path) -> dict[str, JobProgress]:
    """Progress of the jobs of all servers, by id."""
    progress: dict[str, JobProgress] = {}
    for entry in entries(replicas_directory(store)):
        record = _record(entry)
        progress |= record.jobs if record else {}
    return progress


def remove_empty(directory: Path) -> None:
    """Remove a directory below `jobs/`, and `jobs/` itself, as far as nothing is in them."""
    with suppress(OSError):
        directory.rmdir()
        directory.parent.rmdir()


def _read(directory: Path) -> tuple[ReplicaRecord | None, float]:
    """Record of a server, None if it is damaged, and when it was written.

    An opened file has its true time, also on a network file system.

    Raises:
        FileNotFoundError: there is no such server.
        OSError: the record cannot be read.
    """
    with (directory / RECORD).open("rb") as stream:
        written, content = os.fstat(stream.fileno()).st_mtime, stream.read()
    try:
        return decode_json(content, ReplicaRecord), written
    except msgspec.DecodeError:
        return None, written


def _record(directory: Path) -> ReplicaRecord | None:
    """Record of a server; None: it cannot be read."""
    try:
        return _read(directory)[0]
    except OSError:
        return None


def _time_of(path: Path) -> float | None:
    try:
        return path.stat().st_mtime
    except OSError:
        return None


def _make(directory: Path) -> None:
    """Make a directory; servers that end remove empty ones above it."""
    for attempt in range(_ATTEMPTS):
        try:
            directory.mkdir(parents=True)
            return
        except FileNotFoundError:
            if attempt == _ATTEMPTS - 1:
                raise


def _lock(descriptor: int) -> str:
    """Lock an opened directory; which servers see the lock, nobody if the file system has none."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return ""
    return _locks_of(os.fstat(descriptor).st_dev)


def _shared_locks(directory: Path) -> str:
    return _locks_of(directory.stat().st_dev)


def _locks_of(device: int) -> str:
    """What servers have in common that see each other's locks: the running kernel and the mounted file system."""
    try:
        return f"{_BOOT.read_text().strip()} {device}"
    except OSError:
        return ""
