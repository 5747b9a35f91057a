"""The processes that train SAEs together, one per device: what they tell each other, and the layers that each owns.

A rank is the number of a process. A training in one process is one rank, and needs no group.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from itertools import accumulate, pairwise
from typing import TypeVar

import torch
import torch.distributed
from torch import Tensor

from tegakari.models.loading import resolve_device
from tegakari.schemas.errors import ConfigError, LostRankError, SaeError

T = TypeVar("T")

TIMEOUT = timedelta(minutes=30)
"""A rank that waits for another for so long counts it as lost."""


def layers_of_ranks(layers: Sequence[int], count: int) -> list[list[int]]:
    """Layers that each rank owns: runs of neighbours whose lengths differ by at most one, the longer ones first.

    Steps cost the same in every layer, and forward passes are divided among all ranks: equal numbers are equal work.
    """
    size, longer = divmod(len(layers), count)
    ends = accumulate((size + (rank < longer) for rank in range(count)), initial=0)
    return [list(layers[start:end]) for start, end in pairwise(ends)]


@dataclass(frozen=True)
class Ranks:
    """The processes of a training, as one of them sees them. Every rank calls the same methods in the same order."""

    rank: int = 0
    count: int = 1
    local_rank: int = 0
    """number among the processes on this machine, and of the GPU."""
    local_count: int = 1
    """processes on this machine."""

    @property
    def is_first(self) -> bool:
        """Whether this is the rank that shows progress and writes what the ranks share."""
        return self.rank == 0

    def gather(self, value: T) -> list[T]:
        """The values of all ranks, by rank.

        Raises:
            LostRankError: a rank has ended, as in all methods here.
        """
        if self.count == 1:
            return [value]
        values: list[T | None] = [None] * self.count
        with _lost_ranks(self.rank):
            torch.distributed.all_gather_object(values, value)
        return values  # type: ignore[return-value]  # every place was filled

    def from_first(self, compute: Callable[[], T]) -> T:
        """What the first rank computes; the others wait for it."""
        if self.count == 1:
            return compute()
        values = [compute() if self.is_first else None]
        with _lost_ranks(self.rank):
            torch.distributed.broadcast_object_list(values, src=0)
        return values[0]  # type: ignore[return-value]  # the first rank has filled it

    def wait(self) -> None:
        """Wait until all ranks are here."""
        self.gather(None)

    def send_rows(self, sent: Tensor, sent_rows: Sequence[int], received_rows: Sequence[int]) -> Tensor:
        """Send rows to every rank and receive theirs.

        Args:
            sent: [sum of sent_rows, W], the rows for each rank, by rank; contiguous.
            sent_rows: number of rows for each rank.
            received_rows: number of rows from each rank.

        Returns:
            [sum of received_rows, W], by rank.
        """
        received = sent.new_empty(sum(received_rows), sent.shape[1])
        with _lost_ranks(self.rank):  # as bytes: not every backend knows bfloat16
            torch.distributed.all_to_all_single(
                received.view(torch.uint8), sent.view(torch.uint8), list(received_rows), list(sent_rows)
            )
        return received

    def check_same(self, facts: Mapping[str, object]) -> None:
        """Refuse ranks that do not agree: they would train other SAEs, or wait for each other forever.

        Args:
            facts: configuration key, or other name -> value.

        Raises:
            ConfigError: a value differs from that of the first rank.
        """
        first, *others = self.gather(facts)
        for rank, other in enumerate(others, start=1):
            for name, value in first.items():
                if other[name] != value:
                    raise ConfigError(
                        f"{other[name]!r} on rank {rank}, and {value!r} on rank 0",
                        field=name,
                        fix="give all ranks the same configuration, files and versions",
                    )

    def sharing(self, device: torch.device) -> int:
        """Number of ranks that share the memory of this rank's device."""
        return 1 if device.type == "cuda" else self.local_count


@contextmanager
def joined_ranks(device: str, ranks: Ranks, init_method: str) -> Iterator[torch.device]:
    """Be one of several ranks in the block: its device, one GPU per rank or the CPU.

    Residuals are exchanged by NCCL between GPUs, by gloo on CPUs.

    Args:
        device: auto, cpu or cuda.
        ranks: of all processes.
        init_method: where the ranks meet, as of `torch.distributed.init_process_group`.

    Raises:
        ConfigError: a GPU is named, or there are too few.
        SaeError: this build of torch has no NCCL.
        LostRankError: the ranks do not find each other.
    """
    rank_device = device_of_rank(device, ranks.local_rank)
    backend = "gloo"
    if rank_device.type == "cuda":
        if not torch.distributed.is_nccl_available():
            raise SaeError("this build of torch has no NCCL, which exchanges residuals between GPUs", field="--devices")
        torch.cuda.set_device(rank_device)
        backend = "cpu:gloo,cuda:nccl"
    with _lost_ranks(ranks.rank):
        torch.distributed.init_process_group(
            backend, init_method=init_method, rank=ranks.rank, world_size=ranks.count, timeout=TIMEOUT
        )
    yield rank_device
    torch.distributed.destroy_process_group()  # not after an error: NCCL would wait for the ranks that are left


def device_of_rank(device: str, local_rank: int) -> torch.device:
    """Device of one of several ranks of a machine.

    Raises:
        ConfigError: a GPU is named, or the machine has too few.
        ModelError: as of `resolve_device`.
    """
    resolved = resolve_device(device)
    if resolved.type != "cuda":
        return resolved
    if resolved.index is not None:
        raise ConfigError(
            f"{device!r} is one GPU, and each rank needs one of its own",
            field="--device",
            fix="use cuda or auto; CUDA_VISIBLE_DEVICES chooses among the GPUs",
        )
    gpus = torch.cuda.device_count()
    if local_rank >= gpus:
        raise ConfigError(
            f"rank {local_rank} of this machine needs a GPU of its own, and {gpus} are visible",
            field="--devices",
            fix=f"use {gpus} at most, or --device cpu; a batch system must show each task all GPUs of its machine",
        )
    return torch.device("cuda", local_rank)


def ranks_of_environment() -> Ranks:
    """The ranks that torchrun has started, from its variables; without it, this process alone."""
    if "RANK" not in os.environ or "WORLD_SIZE" not in os.environ:
        return Ranks()
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
    try:
        rank, count, local_rank, local_count = (int(os.environ[name]) for name in names)
    except (KeyError, ValueError):
        values = ", ".join(f"{name}={os.environ.get(name, '')}" for name in names)
        raise ConfigError(
            f"{values} of the environment name no rank",
            field="RANK",
            fix="start the command with torchrun, which sets them, or unset RANK and WORLD_SIZE",
        ) from None
    return Ranks(rank, count, local_rank, local_count)


@contextmanager
def _lost_ranks(rank: int) -> Iterator[None]:
    """Translate the errors of torch.distributed.

    Raises:
        LostRankError: another rank has ended, cannot be reached, or is late by `TIMEOUT`.
    """
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:  # its own classes derive from it; gloo raises it as it is
        raise LostRankError(
            f"rank {rank} lost another rank ({str(error).strip().splitlines()[0]})",
            fix="look for the error of the other rank, then run the same command again; finished work is kept",
        ) from error
