"""Where the workers of other nodes put partials, so that the driver has them: on a disk that all nodes share."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple, Protocol

from tegakari.indexer.executors.executor import WorkerSettings
from tegakari.indexer.partial import partial_exists
from tegakari.indexer.shard import Shard
from tegakari.models.classifier import Classifier
from tegakari.schemas.errors import StoreError


class PartialWriter(Protocol):
    """A worker with its models; several threads may use it at once."""

    def write(self, shard: Shard) -> None:
        """Index a shard, and put its partial where the driver finds it, unless it is there."""
        ...


class PartialPlace(Protocol):
    """A place of partials. The driver has it and sends it to the workers."""

    def opened(self, settings: WorkerSettings, node: str) -> tuple[PartialWriter, Classifier]:
        """A worker on a node, which loads its models, and its classifier.

        Args:
            settings: of the index.
            node: address of the node, for errors.

        Raises:
            StoreError: this node does not have what it needs.
            TegakariError: of the models.
        """
        ...

    def finished(self) -> set[str]:
        """Keys of shards whose partials are in the place, and perhaps not where the driver merges them."""
        ...

    def exists(self, key: str) -> bool:
        """Whether the partial of a shard is in the place."""
        ...

    def received(self, shards: Iterable[Shard]) -> Iterator[Shard]:
        """Yield shards that are in the place, each when the driver can merge its partial."""
        ...


class SharedDisk(NamedTuple):
    """The directory of partials of the driver, which all nodes see under its path."""

    directory: Path
    token: Path
    """a file that the driver has made beside the partials"""

    def opened(self, settings: WorkerSettings, node: str) -> tuple[PartialWriter, Classifier]:
        """As `PartialPlace.opened`."""
        if not self.token.is_file():
            raise StoreError(
                f"node {node} does not see {self.token}",
                field="index.store",
                fix="put store, models and corpus on a disk that all nodes have under the same path, or give --store "
                "s3://bucket/prefix, through which they need none",
            )
        return settings.load()

    def finished(self) -> set[str]:
        """As `PartialPlace.finished`: the driver does not ask for shards that it has."""
        return set()

    def exists(self, key: str) -> bool:
        """As `PartialPlace.exists`."""
        return partial_exists(self.directory, key)

    def received(self, shards: Iterable[Shard]) -> Iterator[Shard]:
        """As `PartialPlace.received`."""
        yield from shards
