"""Shards on a Ray cluster: actors that Ray never restarts, and a loop of the driver's own that requeues lost shards.

Ray's own retries are used up before it notices that a node has died, and it retries a shard that ends its workers in
silence. Here, a worker gets shards once it is ready, a lost worker is replaced, and its shards are queued again.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from itertools import compress
from typing import Any

import structlog

from tegakari.indexer.executors.bucket_place import BucketPlace
from tegakari.indexer.executors.executor import WorkerSettings
from tegakari.indexer.executors.in_process import InProcess
from tegakari.indexer.executors.partial_places import PartialPlace, SharedDisk
from tegakari.indexer.executors.ray_cluster import connected, resources
from tegakari.indexer.executors.ray_layers import merge_in_tasks
from tegakari.indexer.executors.ray_worker import Kind, RayWorker, Readiness
from tegakari.indexer.executors.shard_queue import ShardQueue
from tegakari.indexer.index_models import IndexModels
from tegakari.indexer.merged_layer import LayerMerge
from tegakari.indexer.shard import Shard
from tegakari.indexer.write_threads import UNWRITTEN
from tegakari.schemas.errors import ConfigError, StoreError, TegakariError
from tegakari.store.disk.durable import random_suffix, write_atomically
from tegakari.store.versions import recorded_versions

log = structlog.get_logger()

HELD_AT_MOST = 1 + UNWRITTEN
"""Shards of a worker at once: one is computed, one finished, one written."""

PAUSE_SECONDS = 5.0
"""Before a worker that died while it loaded its models is replaced."""


class RayActors:
    """Executor of actors on a running Ray cluster, whose nodes share the store's disk or a bucket with this process."""

    def __init__(
        self,
        address: str,
        workers: int,
        *,
        gpus_per_worker: float = 0,
        wait_seconds: float = 300,
        bucket: str | None = None,
    ) -> None:
        """Start nothing yet.

        Args:
            address: as of `connected`.
            workers: number of actors, each with one CPU.
            gpus_per_worker: GPUs that Ray reserves for each.
            wait_seconds: the index ends if no worker is ready for so long.
            bucket: URL of the bucket through which workers send their partials; None: they share the store's disk.
        """
        self._address = address
        self._workers = workers
        self._gpus_per_worker = gpus_per_worker
        self._wait_seconds = wait_seconds
        self._bucket = bucket

    def index(self, settings: WorkerSettings, models: IndexModels, shards: Sequence[Shard]) -> Iterator[Shard]:
        """As `Executor.index`; shards are yielded as they are finished.

        Raises:
            ConfigError: there is no such cluster, or its workers compute on another kind of device than this process.
            StoreError: no worker was ready for `wait_seconds`, or a shard ended several workers.
        """
        if not shards:
            return
        bounds = settings.bounds.resolve() if settings.bounds is not None else None
        settings = settings._replace(partials=settings.partials.resolve(), bounds=bounds)
        kind = Kind(
            recorded_versions()["tegakari"],
            models.classifier.device.type,
            str(models.classifier.dtype).removeprefix("torch."),
        )
        with self._place(settings, models) as place, connected(self._address):
            finished = place.finished()
            yield from place.received([shard for shard in shards if shard.key in finished])
            missing = [shard for shard in shards if shard.key not in finished]
            pool = _Pool(settings, place, kind, missing, self._workers, self._gpus_per_worker, self._wait_seconds)
            try:
                yield from place.received(pool.finished_shards())
            finally:
                pool.end()

    @contextmanager
    def _place(self, settings: WorkerSettings, models: IndexModels) -> Iterator[PartialPlace]:
        if self._bucket is not None:
            yield BucketPlace.of(self._bucket, settings, models)
            return
        token = settings.partials / f".token-{random_suffix()}"
        write_atomically(token, b"")
        try:
            yield SharedDisk(settings.partials, token)
        finally:
            token.unlink(missing_ok=True)

    def merge(self, merge: LayerMerge, layers: Mapping[int, int]) -> Iterator[int]:
        """As `merge_in_tasks`: a layer needs no models, and therefore no actor.

        Without a shared disk, layers are merged in this process: the partials are on its disk.
        """
        if self._bucket is not None:
            return InProcess().merge(merge, layers)
        merge = merge._replace(partials=merge.partials.resolve(), directory=merge.directory.resolve())
        return merge_in_tasks(self._address, merge, layers, workers=self._workers, wait_seconds=self._wait_seconds)


class _Pool:
    """The actors of an index."""

    def __init__(
        self,
        settings: WorkerSettings,
        place: PartialPlace,
        kind: Kind,
        shards: Sequence[Shard],
        workers: int,
        gpus_per_worker: float,
        wait_seconds: float,
    ) -> None:
        import ray  # pyright: ignore[reportMissingImports]

        self._ray = ray
        self._actor_class = ray.remote(
            num_cpus=1,
            num_gpus=gpus_per_worker,
            max_restarts=0,
            max_task_retries=0,
            max_concurrency=HELD_AT_MOST,
            scheduling_strategy="SPREAD",  # models are loaded on all nodes at once, and a lost node loses few shards
        )(RayWorker)
        self._settings, self._place, self._kind = settings, place, kind
        self._queue = ShardQueue(shards, HELD_AT_MOST)
        self._left = len(shards)
        self._workers = workers
        self._gpus_per_worker = gpus_per_worker
        self._wait_seconds = wait_seconds
        self._held: dict[Any, dict[Any, Shard]] = {}
        """Ready actor -> call -> shard, oldest first."""
        self._loading: dict[Any, Any] = {}
        """Actor that is asked whether it is ready -> call."""
        self._ready: set[Any] = set()
        """Actors that have been ready."""
        self._hire_after = 0.0

    def finished_shards(self) -> Iterator[Shard]:
        """Yield each shard when its partial is written.

        Raises:
            ConfigError, StoreError: as `RayActors.index`.
            TegakariError: of the models or a shard.
        """
        last_ready = time.monotonic()
        while self._left:
            self._hire()
            calls = {call: actor for actor, call in self._loading.items()}
            calls |= {call: actor for actor, held in self._held.items() for call in held}
            if not calls:
                time.sleep(1.0)
            done, _ = self._ray.wait(list(calls), timeout=1.0) if calls else ([], [])
            for call in done:
                yield from self._take_result(calls[call], call)
            if self._held:
                last_ready = time.monotonic()
            elif time.monotonic() - last_ready > self._wait_seconds:
                raise self._no_worker()

    def end(self) -> None:
        """End all actors."""
        for actor in [*self._loading, *self._held]:
            self._kill(actor)

    def _hire(self) -> None:
        wanted = min(self._workers, self._left)
        while time.monotonic() >= self._hire_after and len(self._loading) + len(self._held) < wanted:
            actor = self._actor_class.remote()
            self._loading[actor] = actor.load.remote(self._settings, self._place)

    def _take_result(self, actor: Any, call: Any) -> Iterator[Shard]:
        """Read the result of a finished call and give its actor the next shards."""
        try:
            result = self._ray.get(call)
        except self._ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, self._ray.exceptions.RayError):  # the shard did not reach its worker
                yield from self._lose(actor, error.cause)
                return
            if isinstance(error.cause, TegakariError):
                raise error.cause from None
            raise
        except self._ray.exceptions.RayError as error:
            yield from self._lose(actor, error)
            return
        if actor in self._loading:
            del self._loading[actor]
            self._held[actor] = {}
            if actor not in self._ready:
                self._check(result)
                self._ready.add(actor)
                log.info("worker ready", node=result.node, process=result.process, seconds=round(result.seconds, 1))
        else:
            self._left -= 1
            yield self._held[actor].pop(call)
        self._give(actor)

    def _give(self, actor: Any) -> None:
        held = self._held[actor]
        while (shard := self._queue.take(list(held.values()))) is not None:
            held[actor.write.remote(shard)] = shard

    def _lose(self, actor: Any, error: Exception) -> Iterator[Shard]:
        """Queue the shards of a dead actor again, but those whose partial it has written."""
        reason = str(error).strip().partition("\n")[0]
        self._kill(actor)
        if self._loading.pop(actor, None) is not None:
            log.warning("a worker died", reason=reason, loaded=actor in self._ready)
            if actor not in self._ready:
                self._hire_after = time.monotonic() + PAUSE_SECONDS
            return
        shards = list(self._held.pop(actor).values())
        written = [self._place.exists(shard.key) for shard in shards]
        finished = list(compress(shards, written))
        lost = [shard for shard, is_written in zip(shards, written, strict=True) if not is_written]
        log.warning("a worker died", reason=reason, shards_queued_again=len(lost))
        self._left -= len(finished)
        yield from finished
        self._queue.put_back(lost)
        # Idle workers may have died with the same node: they are asked, so that no shard counts as lost with them.
        for other in [other for other, held in self._held.items() if not held]:
            del self._held[other]
            self._loading[other] = other.load.remote(self._settings, self._place)

    def _check(self, readiness: Readiness) -> None:
        """Refuse a worker whose partials would not be those of this process."""
        for name, mine, theirs in zip(Kind._fields, self._kind, readiness.kind, strict=True):
            if mine == theirs:
                continue
            fix = {
                "version": "install the same version of tegakari on all nodes",
                "device": "run the command on a node with a GPU, with --gpus-per-worker 1, or set index.device to cpu",
                "dtype": "set index.dtype",
            }[name]
            raise ConfigError(
                f"{name} of the worker on node {readiness.node} is {theirs}, of this command {mine}",
                field="--ray",
                fix=fix,
            )

    def _no_worker(self) -> StoreError:
        needs = f"1 CPU and {self._gpus_per_worker:g} GPUs" if self._gpus_per_worker else "1 CPU"
        return StoreError(
            f"no worker was ready for {self._wait_seconds:g} s; a worker needs {needs}, and {resources()}",
            field="--ray",
            fix="add nodes, or raise --wait-seconds if loading the models takes longer; finished work is kept",
        )

    def _kill(self, actor: Any) -> None:
        with suppress(self._ray.exceptions.RayError, ValueError):  # it is dead
            self._ray.kill(actor)
