"""The states of the service's jobs on disk: one file per job, kept by age and by the size of all."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import msgspec

from tegakari.schemas.config import ServiceConfig
from tegakari.schemas.decoding import decode_json
from tegakari.schemas.jobs import FINAL, KnockoutJob
from tegakari.store.disk.durable import write_atomically
from tegakari.store.disk.layout import entries, jobs_directory


class Retention(NamedTuple):
    """Which states of ended jobs are kept; results of analyses are kept without limit."""

    days: float
    size: int
    """bytes of all states, the newest first"""


DEFAULT_RETENTION = Retention(ServiceConfig().job_days, ServiceConfig().job_bytes)


class JobFiles:
    """The files of a store's jobs. Used from any thread; writes of one job must not overlap."""

    def __init__(self, store: Path) -> None:
        """Read nothing yet.

        Args:
            store: the store's directory; the files are in its directory `jobs`.
        """
        self._directory = jobs_directory(store)

    def read(self, id_: str) -> KnockoutJob | None:
        """State of a job; None if none is stored, or the file is damaged."""
        return _read(self._file(id_)) if id_.isalnum() else None

    def write(self, job: KnockoutJob) -> None:
        """Store the state of a job durably, in place of the one before.

        Raises:
            OSError: the store cannot be written.
        """
        self._directory.mkdir(parents=True, exist_ok=True)
        write_atomically(self._file(job.id), msgspec.json.encode(job))

    def remove(self, id_: str) -> None:
        """Remove the state of a job, if there is one.

        Raises:
            OSError: the store cannot be written.
        """
        self._file(id_).unlink(missing_ok=True)

    def newest(self, limit: int) -> list[KnockoutJob]:
        """Jobs by creation, newest first."""
        jobs = [job for path in self._paths() if (job := _read(path))]
        return sorted(jobs, key=lambda job: (job.created, job.id), reverse=True)[:limit]

    def unfinished(self) -> Iterator[KnockoutJob]:
        """Jobs that have not ended according to their files."""
        for path in self._paths():
            job = _read(path)
            if job and job.state not in FINAL:
                yield job

    def expired(self, retention: Retention, now: float | None = None) -> list[Path]:
        """Files to remove: older ones, the oldest beyond the size; never one of a younger job that has not ended.

        Args:
            retention: what is kept.
            now: seconds since the epoch; default: the current time.
        """
        now = time.time() if now is None else now
        files = []
        for path in self._paths():
            with suppress(FileNotFoundError):
                status = path.stat()
                files.append((status.st_mtime, status.st_size, path))
        expired, size = [], 0
        for changed, bytes_, path in sorted(files, reverse=True):
            size += bytes_
            if now - changed > retention.days * 86_400:
                expired.append(path)
            elif size > retention.size:
                job = _read(path)
                if job is None or job.state in FINAL:
                    expired.append(path)
                    size -= bytes_
        return expired

    def _paths(self) -> list[Path]:
        return [path for path in entries(self._directory) if path.suffix == ".json" and not path.name.startswith(".")]

    def _file(self, id_: str) -> Path:
        return self._directory / f"{id_}.json"


def _read(file: Path) -> KnockoutJob | None:
    try:
        job = decode_json(file.read_bytes(), KnockoutJob)
    except (OSError, msgspec.DecodeError):
        return None
    return job if job.id == file.stem else None  # it is written back to the file of its id
