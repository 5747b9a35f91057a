"""SAE training on several devices of this machine: one process per device, watched by the process of the command."""

from __future__ import annotations

import math
import multiprocessing
import os
import signal
import sys
import tempfile
import time
from collections.abc import MutableMapping, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, Literal, NamedTuple

import structlog
import torch

from tegakari.indexer.training.saes.ranks import Ranks, device_of_rank, joined_ranks, ranks_of_environment
from tegakari.indexer.training.saes.train import train_as_rank, train_saes
from tegakari.schemas.config import Config
from tegakari.schemas.errors import ConfigError, LostRankError, SaeError, TegakariError
from tegakari.schemas.progress import NoProgress, Progress
from tegakari.schemas.saes import SaesReport
from tegakari.store.processes import end_with_parent

log = structlog.get_logger()

START_METHOD = "spawn"
"""A forked process cannot use a GPU."""

PATIENCE_SECONDS = 20.0
"""After a rank has lost another, until which the other's own error can arrive."""

LOOPBACK = "lo0" if sys.platform == "darwin" else "lo"


def train_saes_on_devices(
    config: Config, *, devices: int, device: str = "auto", progress: Progress = NoProgress()
) -> SaesReport:
    """As `train_saes`, on several devices: the first GPUs of this machine, or as many processes on its CPU.

    Args:
        config: as of `train_saes`.
        devices: number of processes; one: this process trains.
        device: auto, cpu or cuda.
        progress: receives the stages.

    Raises:
        TegakariError: of any rank, as `train_saes`.
        ConfigError: there are too few GPUs, or torchrun has started this process.
        SaeError: a rank was killed.
    """
    if devices == 1:
        return train_saes(config, device=device, progress=progress)
    if ranks_of_environment().count > 1:
        raise ConfigError(
            f"{devices}, and torchrun has started this process for one device",
            field="--devices",
            fix="leave it out, or start the command without torchrun",
        )
    last = device_of_rank(device, devices - 1)
    threads = torch.get_num_threads() if last.type == "cuda" else max(1, torch.get_num_threads() // devices)
    context = multiprocessing.get_context(START_METHOD)
    with tempfile.TemporaryDirectory(prefix="tegakari-ranks-") as directory:
        pipes = [context.Pipe(duplex=False) for _ in range(devices)]
        processes = [
            context.Process(
                target=_train_rank,
                args=(config, Ranks(rank, devices, rank, devices), device, f"file://{directory}/ranks", threads, end),
                name=f"rank {rank}",
            )
            for rank, (_, end) in enumerate(pipes)
        ]
        try:
            for process in processes:
                process.start()
            for _, end in pipes:
                end.close()  # of this process, so that a pipe ends with its rank
            return _Watch(processes, [receiver for receiver, _ in pipes], progress).report()
        finally:
            _end(processes)


class _Message(NamedTuple):
    """What a rank tells the process of the command."""

    kind: Literal["stage", "advance", "note", "log", "report", "error"]
    content: Any
    """stage: (name, total, done); advance: steps; note: text; log: (method, event)"""


class _Watch:
    """Shows what the ranks tell, and finds the first that failed."""

    def __init__(self, processes: Sequence[BaseProcess], receivers: Sequence[Connection], progress: Progress) -> None:
        self._processes = processes
        self._receivers = receivers
        self._progress = progress
        self._report: SaesReport | None = None
        self._lost: LostRankError | None = None

    def report(self) -> SaesReport:
        """Wait for all ranks, and return the report of the first.

        Raises:
            TegakariError: of the first rank that failed.
            SaeError: a rank was killed.
        """
        running = dict(enumerate(self._processes))
        deadline = math.inf
        while running and time.monotonic() < deadline:
            receivers = [self._receivers[rank] for rank in running]
            sentinels = [process.sentinel for process in running.values()]
            ready = wait([*receivers, *sentinels], timeout=None if self._lost is None else PATIENCE_SECONDS)
            for rank, process in list(running.items()):
                self._receive(self._receivers[rank])
                if process.sentinel in ready:
                    self._check_end(rank)
                    del running[rank]
            if self._lost is not None:
                deadline = min(deadline, time.monotonic() + PATIENCE_SECONDS)
        if self._report is None:
            raise self._lost or SaeError("all ranks ended, and none has a report")
        return self._report

    def _receive(self, receiver: Connection) -> None:
        """Act on all messages of a rank that have arrived."""
        while receiver.poll():
            try:
                kind, content = receiver.recv()
            except (EOFError, OSError):  # the rank has ended, perhaps within a message
                return
            if kind == "stage":
                name, total, done = content
                self._progress.stage(name, total, done=done)
            elif kind == "advance":
                self._progress.advance(content)
            elif kind == "note":
                self._progress.note(content)
            elif kind == "log":
                method, event = content
                getattr(log, method)(**event)
            elif kind == "report":
                self._report = content
            elif isinstance(content, LostRankError):  # the other rank was killed, or has an error of its own
                self._lost = self._lost or content
            else:
                raise content

    def _check_end(self, rank: int) -> None:
        process = self._processes[rank]
        process.join()
        code = process.exitcode
        if not code:
            return
        reason = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        raise SaeError(
            f"rank {rank} of {len(self._processes)} (process {process.pid}) {reason}",
            fix="run the same command again, on fewer devices if memory is short; finished work is kept",
        )


def _end(processes: Sequence[BaseProcess]) -> None:
    """End the ranks that are left; what they have not written is computed again."""
    started = [process for process in processes if process.pid is not None]
    for process in started:
        process.kill()
    for process in started:
        process.join()


def _train_rank(config: Config, ranks: Ranks, device: str, init_method: str, threads: int, sender: Connection) -> None:
    """Train as a rank, and tell the process of the command."""
    end_with_parent(signal.SIGKILL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of a terminal, which reaches the process of the command as well
    torch.set_num_threads(threads)
    for variable in ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"):
        os.environ.setdefault(variable, LOOPBACK)  # nothing outside this machine can connect

    def tell_event(_logger: object, method: str, event: MutableMapping[str, Any]) -> Any:
        if ranks.is_first:
            sender.send(_Message("log", (method, dict(event))))
        raise structlog.DropEvent

    structlog.configure(processors=[tell_event])
    try:
        with joined_ranks(device, ranks, init_method) as rank_device:
            report = train_as_rank(config, ranks, str(rank_device), _SentProgress(sender))
        if ranks.is_first:
            sender.send(_Message("report", report))
    except TegakariError as error:
        with suppress(OSError):  # the process of the command has ended
            sender.send(_Message("error", error))


class _SentProgress:
    """Progress that the process of the command shows."""

    def __init__(self, sender: Connection) -> None:
        self._sender = sender

    def stage(self, name: str, total: int | None = None, *, done: int = 0) -> None:
        self._sender.send(_Message("stage", (name, total, done)))

    def advance(self, steps: int = 1) -> None:
        self._sender.send(_Message("advance", steps))

    def note(self, text: str) -> None:
        self._sender.send(_Message("note", text))
