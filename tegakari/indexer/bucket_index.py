"""An index whose run is published in a bucket as well: under a lease, resumed at whatever stage it was killed."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

from tegakari.indexer.executors import Executor, InProcess
from tegakari.indexer.executors.bucket_place import delete_work
from tegakari.indexer.pipeline import IndexResult, index
from tegakari.schemas.config import Config
from tegakari.schemas.errors import StoreError
from tegakari.schemas.progress import NoProgress, Progress
from tegakari.store.disk.durable import exclusive_lock, translate_disk_full
from tegakari.store.disk.layout import WORK, work_directory
from tegakari.store.objects.bucket import Bucket
from tegakari.store.objects.lease import held_lease
from tegakari.store.objects.published_runs import published_run
from tegakari.store.objects.push import push_run


def index_into_bucket(
    config: Config, bucket: Bucket, progress: Progress = NoProgress(), *, executor: Executor = InProcess()
) -> IndexResult:
    """Index as `index` does, then publish the run in a bucket too, and remove what workers have left there.

    Args:
        config: as of `index`; its store, a directory, receives the run as well.
        bucket: of the run, and of the partials of an executor whose workers send them there.
        progress: receives the stages.
        executor: where shards are computed.

    Raises:
        RunExistsError: the store or the bucket has a run of this name with other inputs or settings.
        StoreError: another command indexes this run into the bucket.
        ObjectStorageError: the bucket cannot be read or written.
        TegakariError: as of `index`.
    """
    run, store = config.index.run, Path(config.index.store)
    key = hashlib.sha256(repr((bucket.url, run)).encode()).hexdigest()[:16]
    busy = StoreError(f"another process is indexing run {run!r}", field="index.run", fix="wait for it, or stop it")
    with translate_disk_full(store, field="index.store"):
        work = work_directory(store, f"lease-{key}")
        work.mkdir(parents=True, exist_ok=True)
        with exclusive_lock(work, busy):
            with held_lease(bucket, f"{WORK}/{run}", work) as lease:
                published = published_run(bucket, run)
                manifest = None if published is None else published.manifest
                result = index(config, progress, executor=executor, published=manifest)
                lease.check()
                if published is None:
                    push_run(bucket, store, run, progress)
                delete_work(bucket, run)
            shutil.rmtree(work)
    return result
