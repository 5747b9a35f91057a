"""Partials in a bucket, for workers that share no disk with the driver.

    work/<run>/<shard>-<limits>/<upload>/<path>   files of the partial
    work/<run>/<shard>-<limits>/shard.json        created last and once: the upload, and the checksums of its files

Two workers may finish one shard with different candidates, which are hints: each has an upload of its own. The key of a
shard does not depend on the limits of norms, which two drivers may have measured with different rounding.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
import time
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import msgspec
from msgspec import Meta

from tegakari.indexer.executors.executor import WorkerSettings
from tegakari.indexer.executors.partial_places import PartialWriter
from tegakari.indexer.index_models import IndexModels, ModelHashes, model_hashes
from tegakari.indexer.partial import partial_exists
from tegakari.indexer.shard import Shard
from tegakari.models.classifier import Classifier
from tegakari.schemas.decoding import decode_json
from tegakari.schemas.errors import ModelError, ObjectStorageError, SaeError, StoreError
from tegakari.schemas.run import FileEntry
from tegakari.store.disk.durable import checksums, exclusive_lock, is_locked, random_suffix, staged_directory
from tegakari.store.disk.layout import WORK

if TYPE_CHECKING:
    from tegakari.store.objects.bucket import Bucket

SHARD = "shard.json"
RECEIVED_AT_A_TIME = 4
"""Partials that the driver copies at a time."""

SCRATCH_SECONDS = 60.0
"""A younger directory may be that of a worker that has not locked it yet."""

_MAX_BYTES = 2**20
_SCRATCH = "tegakari-partials-"


class _Upload(msgspec.Struct, frozen=True):
    """Content of shard.json in a bucket."""

    upload: Annotated[str, Meta(pattern="^[0-9a-f]{16}$")]
    files: list[FileEntry]


class BucketPlace(NamedTuple):
    """A place of partials below a bucket's `work/<run>`."""

    url: str
    """of the bucket"""
    run: str
    limits: str
    """hash of the limits of norms"""
    partials: Path
    """of the driver, which receives there what workers send"""
    hashes: ModelHashes
    sources: list[str]
    """of the SAEs"""

    @classmethod
    def of(cls, url: str, settings: WorkerSettings, models: IndexModels) -> BucketPlace:
        """The place of an index whose driver has these settings and models."""
        limits = hashlib.sha256(msgspec.json.encode(sorted(settings.limits.items()))).hexdigest()[:8]
        hashes = ModelHashes(models.classifier_sha256, models.saes_sha256)
        sources = [sae.source for sae in models.saes.values()]
        return cls(url, settings.config.index.run, limits, settings.partials, hashes, sources)

    def opened(self, settings: WorkerSettings, node: str) -> tuple[PartialWriter, Classifier]:
        """As `PartialPlace.opened`; the models are files of the node."""
        try:
            _bucket(self.url)
        except ModuleNotFoundError as error:
            fix = "install the packages of tegakari[ray,s3] on all nodes"
            raise StoreError(f"node {node} has no package {error.name}", field="--ray", fix=fix) from None
        scratch = _scratch_directory()
        try:
            writer, classifier = settings._replace(partials=scratch, bounds=None).load()
        except (ModelError, SaeError) as error:
            raise StoreError(
                f"node {node}: {error.message}",
                field=error.field,
                fix="put the classifier and the SAEs on all nodes, in directories of the same names",
            ) from error
        for field, path, mine, theirs in zip(
            ("classifier.path", "saes.path"),
            (settings.config.classifier.path, settings.config.saes.path),
            model_hashes(settings.config, self.sources),
            self.hashes,
            strict=True,
        ):
            if mine != theirs:
                raise StoreError(
                    f"node {node} has other files in {path}: their hash is {mine[:16]}…, that of the files of this "
                    f"command {theirs[:16]}…",
                    field=field,
                    fix="copy the same files to all nodes",
                )
        return _BucketWriter(writer, self, scratch), classifier

    def finished(self) -> set[str]:
        """As `PartialPlace.finished`."""
        ending = f"-{self.limits}/{SHARD}"
        objects = _bucket(self.url).objects(f"{WORK}/{self.run}")
        names = (stored.path.removeprefix(f"{WORK}/{self.run}/") for stored in objects)
        return {name.removesuffix(ending) for name in names if name.endswith(ending)}

    def exists(self, key: str) -> bool:
        """As `PartialPlace.exists`."""
        return self._upload(key) is not None

    def received(self, shards: Iterable[Shard]) -> Iterator[Shard]:
        """As `PartialPlace.received`: threads copy partials while others are computed, and compare their checksums.

        Raises:
            ObjectStorageError: a partial is damaged, and taken back; or the bucket fails.
        """
        with ThreadPoolExecutor(RECEIVED_AT_A_TIME, thread_name_prefix="receive-partial") as pool:
            pending: deque[tuple[Shard, Future[None]]] = deque()
            try:
                for shard in shards:
                    pending.append((shard, pool.submit(self.receive, shard.key)))
                    while pending and pending[0][1].done():
                        yield _done(*pending.popleft())
                while pending:
                    yield _done(*pending.popleft())
            finally:
                pool.shutdown(wait=True, cancel_futures=True)

    def send(self, key: str, directory: Path) -> None:
        """Put the partial of a shard in the bucket, its name last.

        Raises:
            ObjectStorageError: the bucket cannot be written.
        """
        from tegakari.store.objects.creation import create_once

        bucket = _bucket(self.url)
        upload = random_suffix()
        files = checksums(directory, exclude="")
        for file in files:
            bucket.upload(f"{self._directory(key)}/{upload}/{file.path}", directory / file.path)
        content = msgspec.json.encode(_Upload(upload, files))
        if create_once(bucket, f"{self._directory(key)}/{SHARD}", content, _MAX_BYTES) != content:
            bucket.delete(f"{self._directory(key)}/{upload}/{file.path}" for file in files)

    def receive(self, key: str) -> None:
        """Copy the partial of a shard to the driver's partials, if it is not there.

        Raises:
            ObjectStorageError: it is damaged, and taken back; or the bucket cannot be read.
        """
        if partial_exists(self.partials, key):
            return
        upload = self._upload(key)
        if upload is None:
            raise self._taken_back(key, "is not there any more")
        bucket, target = _bucket(self.url), self.partials / key
        with (
            suppress(FileExistsError),
            staged_directory(target, target.with_name(f".{key}.{random_suffix()}")) as staged,
        ):
            for entry in upload.files:
                path = f"{self._directory(key)}/{upload.upload}/{entry.path}"
                (staged / entry.path).parent.mkdir(parents=True, exist_ok=True)
                digest = hashlib.sha256()
                try:
                    with (staged / entry.path).open("wb") as stream:
                        for chunk in bucket.stream(path, 0, entry.size):
                            digest.update(chunk)
                            stream.write(chunk)
                except FileNotFoundError:
                    raise self._taken_back(key, f"lacks {upload.upload}/{entry.path}") from None
                if digest.hexdigest() != entry.sha256:
                    raise self._taken_back(key, f"differs from the checksum of {upload.upload}/{entry.path}")

    def _taken_back(self, key: str, reason: str) -> ObjectStorageError:
        bucket = _bucket(self.url)
        bucket.delete([f"{self._directory(key)}/{SHARD}"])
        return ObjectStorageError(
            f"{bucket.url}/{self._directory(key)} {reason}",
            field="store",
            fix="run the same command again, which indexes this shard anew; other finished work is kept",
        )

    def _upload(self, key: str) -> _Upload | None:
        path = f"{self._directory(key)}/{SHARD}"
        content = _bucket(self.url).read(path, _MAX_BYTES)
        try:
            return None if content is None else decode_json(content, _Upload)
        except msgspec.DecodeError as error:
            raise self._taken_back(key, f"has a damaged {SHARD}: {error}") from None

    def _directory(self, key: str) -> str:
        return f"{WORK}/{self.run}/{key}-{self.limits}"


class _BucketWriter:
    """Writes partials to the disk of its node, and from there to the bucket."""

    def __init__(self, writer: PartialWriter, place: BucketPlace, scratch: Path) -> None:
        self._writer = writer
        self._place = place
        self._scratch = scratch

    def write(self, shard: Shard) -> None:
        """As `PartialWriter.write`."""
        if self._place.exists(shard.key):
            return
        self._writer.write(shard)
        try:
            self._place.send(shard.key, self._scratch / shard.key)
        finally:
            shutil.rmtree(self._scratch / shard.key)


def delete_work(bucket: Bucket, run: str) -> None:
    """Delete the partials of a run.

    Raises:
        ObjectStorageError: they cannot be listed or deleted.
    """
    from tegakari.store.objects.lease import LEASE

    lease = f"{WORK}/{run}/{LEASE}/"
    bucket.delete(stored.path for stored in bucket.objects(f"{WORK}/{run}") if not stored.path.startswith(lease))


@cache
def _bucket(url: str) -> Bucket:
    from tegakari.store.objects.bucket import Bucket

    return Bucket(url)


_locks = ExitStack()
"""Of the scratch directory of this process, until it ends."""


def _scratch_directory() -> Path:
    """A directory for partials on the disk of this node; those of workers that were killed are removed."""
    for left in Path(tempfile.gettempdir()).glob(f"{_SCRATCH}*"):
        with suppress(OSError):
            if time.time() - left.stat().st_mtime > SCRATCH_SECONDS and not is_locked(left):
                shutil.rmtree(left)
    directory = Path(tempfile.mkdtemp(prefix=_SCRATCH))
    _locks.enter_context(exclusive_lock(directory, StoreError(f"{directory} is used by another process")))
    return directory


def _done(shard: Shard, future: Future[None]) -> Shard:
    future.result()
    return shard
