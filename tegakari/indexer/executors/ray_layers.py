"""Layers on a Ray cluster: a task per layer, and a loop of the driver's own that starts lost ones again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import structlog

from tegakari.indexer.executors.ray_cluster import connected, resources
from tegakari.indexer.merge_memory import GIGABYTE
from tegakari.indexer.merged_layer import LayerMerge
from tegakari.schemas.errors import ConfigError, StoreError, TegakariError
from tegakari.store.versions import recorded_versions

log = structlog.get_logger()

DEATHS = 3
"""Workers that may die with a layer before the merge ends."""


def merge_in_tasks(
    address: str, merge: LayerMerge, layers: Mapping[int, int], *, workers: int, wait_seconds: float
) -> Iterator[int]:
    """As `Executor.merge`.

    Args:
        address: of the cluster, as of `connected`.
        merge: what the layers share; its paths are absolute.
        layers: features of each.
        workers: tasks at a time, each with one CPU and the memory of a layer.
        wait_seconds: the merge ends if no node has room for a task for so long.

    Raises:
        ConfigError: there is no such cluster, or a node has another version of tegakari.
        StoreError: there is no room for a task, or a layer ended several workers.
        TegakariError, OSError: of a layer.
    """
    if not layers:
        return
    with connected(address):
        import ray  # pyright: ignore[reportMissingImports]

        def remote(function: Any) -> Any:
            return ray.remote(num_cpus=1, memory=merge.memory, max_retries=0)(function).remote

        if not ray.wait([remote(_version)()], timeout=wait_seconds)[0]:
            raise StoreError(
                f"no node had 1 CPU and {merge.memory / GIGABYTE:g} GB of memory for {wait_seconds:g} s: {resources()}",
                field="--ray",
                fix="add nodes, or set a smaller index.merge_memory_gb; merged layers are kept",
            )
        start, version = remote(_merge), _version()
        left = dict(layers)
        running: dict[Any, int] = {}
        deaths: Counter[int] = Counter()
        while left or running:
            while left and len(running) < workers:
                layer = next(iter(left))
                running[start(merge, layer, left.pop(layer), version)] = layer
            done, _ = ray.wait(list(running), timeout=1.0)
            for call in done:
                layer = running.pop(call)
                if (death := _death(ray, call)) is None:
                    yield layer
                    continue
                deaths[layer] += 1
                log.warning("a worker died", reason=death, layer=layer)
                if deaths[layer] == DEATHS:
                    raise StoreError(
                        f"the merge of layer {layer} ended {DEATHS} workers: {death}",
                        field="--ray",
                        fix="look into the workers' logs; give them more memory, or set a smaller "
                        "index.merge_memory_gb; merged layers are kept",
                    )
                left[layer] = layers[layer]


def _death(ray: Any, call: Any) -> str | None:
    """Why the worker of a call died; None: the call has finished."""
    try:
        ray.get(call)
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, TegakariError | OSError):
            raise error.cause from None
        raise
    except ray.exceptions.RayError as error:
        return str(error).strip().partition("\n")[0] or type(error).__name__
    return None


def _version() -> str:
    return recorded_versions()["tegakari"]


def _merge(merge: LayerMerge, layer: int, d_sae: int, version: str) -> None:
    """Merge a layer on a node of this version of tegakari."""
    if _version() != version:
        raise ConfigError(
            f"version of a worker is {_version()}, of this command {version}",
            field="--ray",
            fix="install the same version of tegakari on all nodes",
        )
    merge.merge(layer, d_sae)
