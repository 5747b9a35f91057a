"""Executors: where the shards of an index are computed. One protocol; the pipeline does not know which it is."""

from tegakari.indexer.executors.executor import Executor, WorkerSettings
from tegakari.indexer.executors.in_process import InProcess
from tegakari.indexer.executors.processes import Processes

__all__ = ["Executor", "InProcess", "Processes", "WorkerSettings"]
