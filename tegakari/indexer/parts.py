"""Parts of the shards, for commands that index one run beside each other, such as the tasks of a SLURM array."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from tegakari.indexer.shard import Shard
from tegakari.schemas.errors import ConfigError, StoreError
from tegakari.store.disk.durable import exclusive_lock, shared_lock

_FORM = re.compile(r"([1-9][0-9]{0,5})/([1-9][0-9]{0,5})")
_LOCK = re.compile(r"lock-([0-9]+)-of-([0-9]+)")


class Part(NamedTuple):
    """Every N-th shard, from the I-th; written I/N."""

    number: int
    """I, from 1."""
    parts: int
    """N"""

    @classmethod
    def parse(cls, text: str) -> Part:
        """The part that I/N stands for.

        Raises:
            ConfigError: not of this form, or I exceeds N.
        """
        match = _FORM.fullmatch(text)
        if match is None or int(match[1]) > int(match[2]):
            raise ConfigError(
                f"{text!r} is not a part of the shards",
                field="--shards",
                fix="write I/N with I from 1 to N, such as 2/8 for the second of eight parts",
            )
        return cls(int(match[1]), int(match[2]))

    def __str__(self) -> str:
        return f"{self.number}/{self.parts}"

    def of(self, shards: Sequence[Shard]) -> list[Shard]:
        """The shards of the part."""
        return list(shards[self.number - 1 :: self.parts])


WHOLE = Part(1, 1)


@contextmanager
def part_lock(work: Path, part: Part) -> Iterator[None]:
    """Index a part while others index theirs, but nobody merges.

    Raises:
        StoreError: another process indexes this part, or the whole run.
    """
    whole = StoreError(
        f"another process is indexing or merging all shards of run {work.name!r}",
        field="index.run",
        fix="wait for it, or stop it",
    )
    same = StoreError(
        f"another process is indexing part {part} of run {work.name!r}",
        field="--shards",
        fix="wait for it, or index another part",
    )
    with shared_lock(work / "lock", whole), exclusive_lock(work / f"lock-{part.number}-of-{part.parts}", same):
        yield


def unfinished_error(work: Path, shards: Sequence[Shard], missing: Iterable[Shard]) -> StoreError:
    """The error of a merge whose shards are not all indexed; it names the parts to index.

    Args:
        work: directory of the run's unfinished work.
        shards: all of the run.
        missing: those without a partial, at least one.
    """
    keys = {shard.key for shard in missing}
    numbers = [number for number, shard in enumerate(shards) if shard.key in keys]
    message = f"{len(numbers)} of {len(shards)} shards of run {work.name!r} are not indexed"
    locks = [match for file in work.iterdir() if (match := _LOCK.fullmatch(file.name))]
    names = []
    for parts in sorted({int(match[2]) for match in locks}):
        needed = sorted({number % parts + 1 for number in numbers})
        names.append(", ".join(str(Part(number, parts)) for number in needed))
    if names:
        message += f": parts {' or '.join(names)}"
    others = len(shards) - len(numbers) == 0 and any((work / "shards").glob("[0-9a-f]*"))
    if others:
        message += "; those that are were indexed from other inputs, with other settings or on another kind of device"
    option = "--shards I/N for each of these parts" if names else "--only shards"
    return StoreError(message, field="--only", fix=f"run `tegakari index` with {option}, or without options for all")
