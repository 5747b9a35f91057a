"""What contexts and probes cost: time of `tegakari index` with and without them, bytes per feature, peak memory.

    python -m benchmarks.contexts [--shape study] [--active 500] [--documents 512] [--repeats 2] [--memory]

Time: processor seconds of whole indexes from their first shard on, with and without contexts in turn, in one process.
The classifier's passes run once: the seconds of a batch's first pass count in every index that passes it, so that the
passes, which are the same in both, add no noise to the ratio. `study` is a block of gemma-2-2b with an SAE of 9,216
features, `small` one of SmolLM2-135M with 4,096; documents have 30 to 300 tokens. Samples of a fixed number of
documents (norms, explained variance, label effects) are as large a share of the corpus as in one of the study's size.
Memory: the highest resident set of two small layers, of `--documents` and of four times as many, each index in a
process of its own. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import torch
from rich.console import Console

from benchmarks.case import SMALL, Shape, make_case, with_store
from benchmarks.environments import WORK
from benchmarks.machine import machine, rounded
from tegakari.indexer import effects, norm_limits
from tegakari.indexer.pipeline import index
from tegakari.models.classifier import Classifier, Output, ResidualSink
from tegakari.models.tokens import Batch
from tegakari.schemas.config import Config
from tegakari.schemas.progress import NoProgress
from tegakari.schemas.run import FORMAT, READ_FORMATS

SMOLLM = Shape(
    layers=1,
    d_model=576,
    intermediate=1536,
    heads=9,
    kv_heads=3,
    head_dim=64,
    vocabulary=8192,
    d_sae=4096,
    active=222,
)
SHAPES = {"study": Shape(layers=1, vocabulary=8192), "small": SMOLLM}
TIMES = 4
WITHOUT = READ_FORMATS[0]
"""Format of runs without contexts."""

console = Console(width=120)


class Point(msgspec.Struct, frozen=True):
    """Sizes of one index."""

    peak_bytes: int
    context_bytes: int
    """of contexts and probes"""
    run_bytes: int
    """of all files of the run"""


class Passes:
    """Passes of classifiers, each of which runs once; later ones report the same residuals."""

    def __init__(self) -> None:
        self.seconds = 0.0
        """processor seconds of all passes so far, each as long as its first"""
        self.run_seconds = 0.0
        """of those that ran"""
        self._first: dict[bytes, tuple[float, list[Any], Output]] = {}
        self._run = Classifier.run

    def run(
        self,
        classifier: Classifier,
        batch: Batch,
        on_residual: ResidualSink | None = None,
        layers: Sequence[int] | None = None,
    ) -> Output:
        """As `Classifier.run`."""
        key = batch.input_ids.numpy().tobytes() + repr((batch.input_ids.shape, layers)).encode()
        if key not in self._first:
            residuals: list[Any] = []
            start = time.process_time()
            output = self._run(classifier, batch, lambda *residual: residuals.append(residual), layers)
            self._first[key] = time.process_time() - start, residuals, output
            self.run_seconds += self._first[key][0]
        seconds, residuals, output = self._first[key]
        self.seconds += seconds
        if on_residual is not None:
            for residual in residuals:
                on_residual(*residual)
        return output


class Stages(NoProgress):
    """Processor seconds of the stages of an index, passes included."""

    def __init__(self, passes: Passes) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self._passes = passes
        self._name = ""  # loading and tokenizing, which are the same with contexts and without
        self._start = self._now()

    def stage(self, name: str, total: int | None = None, *, done: int = 0) -> None:
        now = self._now()
        if self._name:
            self.seconds[self._name] += now - self._start
        self._name, self._start = name, now

    def _now(self) -> float:
        return time.process_time() - self._passes.run_seconds + self._passes.seconds


def index_seconds(config: Config, run_format: int, passes: Passes) -> dict[str, float]:
    """Processor seconds of an index into a new store, by stage, from its first shard on."""
    stages = Stages(passes)
    with tempfile.TemporaryDirectory(dir=Path(config.index.store).parent) as store:
        index(with_store(config, Path(store)), stages, run_format=run_format)
        stages.stage("")
    return stages.seconds


def measure_time(work: Path, shape: Shape, documents: int, repeats: int) -> dict[str, Any]:
    """Ratio of the time of an index with contexts to that without, and seconds of the stages."""
    torch.set_num_threads(1)
    warm = make_case(work / "contexts-warm", SMALL, 32)
    config = make_case(work / f"contexts-{shape.d_model}-{shape.active}-{documents}", shape, documents)
    sample = config.index.explained_variance_documents
    norm_limits.SAMPLE_DOCUMENTS = effects.SAMPLE_DOCUMENTS = sample
    passes = Passes()

    def run(*arguments: Any, **options: Any) -> Output:
        return passes.run(*arguments, **options)

    Classifier.run = run
    for run_format in (WITHOUT, FORMAT):  # compiles and imports
        index_seconds(warm, run_format, passes)
    rounds = []
    for number in range(repeats):
        formats = (WITHOUT, FORMAT) if number % 2 == 0 else (FORMAT, WITHOUT)
        seconds = {run_format: index_seconds(config, run_format, passes) for run_format in formats}
        rounds.append((seconds[WITHOUT], seconds[FORMAT]))
        for run_format in formats:
            console.print(f"format {run_format}: {rounded(seconds[run_format])}")
    extra = {
        stage: statistics.median(new.get(stage, 0) - old.get(stage, 0) for old, new in rounds)
        for stage in {stage for both in rounds for of_one in both for stage in of_one}
    }
    return {
        "processor_time_ratio": statistics.median(sum(new.values()) / sum(old.values()) for old, new in rounds),
        "seconds_without": statistics.median(sum(old.values()) for old, _ in rounds),
        "seconds_with": statistics.median(sum(new.values()) for _, new in rounds),
        "extra_seconds": rounded(extra),
        "shape": shape._asdict(),
        "documents": documents,
    }


def index_once(config_file: Path, run_format: int) -> Point:
    """Index into a new store; measures its process, which must do nothing else."""
    config = msgspec.json.decode(config_file.read_bytes(), type=Config)
    store = config_file.with_name("contexts-store")
    shutil.rmtree(store, ignore_errors=True)
    manifest = index(with_store(config, store), run_format=run_format).manifest
    shutil.rmtree(store)
    sizes = {file.path: file.size for file in manifest.files}
    return Point(
        resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        sum(size for path, size in sizes.items() if path.startswith("contexts/")),
        sum(sizes.values()),
    )


def measured(work: Path, documents: int, run_format: int) -> Point:
    """A point of two small layers, in a process of its own."""
    root = work / f"contexts-memory-{documents}"
    config = make_case(root, SMOLLM._replace(layers=2), documents)
    config_file = root / "config.json"
    config_file.write_bytes(msgspec.json.encode(config))
    command = [sys.executable, "-m", "benchmarks.contexts", "--once", str(config_file), "--format", str(run_format)]
    process = subprocess.run(command, stdout=subprocess.PIPE, check=True, env=os.environ)
    point = msgspec.json.decode(process.stdout.splitlines()[-1], type=Point)
    console.print(f"{documents} documents, format {run_format}: {point}")
    return point


def measure_memory(work: Path, documents: int) -> dict[str, Any]:
    """Peak memory with and without contexts, and their bytes per feature, at two sizes of the corpus."""
    figures: dict[str, Any] = {}
    for count in (documents, TIMES * documents):
        old, new = measured(work, count, WITHOUT), measured(work, count, FORMAT)
        figures[f"peak_megabytes_{count}"] = {"without": old.peak_bytes / 1e6, "with": new.peak_bytes / 1e6}
        figures[f"bytes_per_feature_{count}"] = new.context_bytes / (2 * SMOLLM.d_sae)
        figures[f"share_of_run_{count}"] = new.context_bytes / new.run_bytes
    return figures


def main(arguments: Sequence[str] | None = None) -> None:
    """Print one JSON object."""
    parser = argparse.ArgumentParser(description="Time, bytes and memory of contexts and probes.")
    parser.add_argument("--shape", choices=list(SHAPES), default="study", help="of the model and the SAE")
    parser.add_argument("--active", type=int, help="mean active features per position; default: 5.4 percent")
    parser.add_argument("--documents", type=int, default=512, help="of the smaller corpus")
    parser.add_argument("--repeats", type=int, default=2, help="rounds")
    parser.add_argument("--memory", action="store_true", help="measure bytes and memory instead of time")
    parser.add_argument("--work", type=Path, default=WORK, help="directory for models and stores")
    parser.add_argument("--once", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--format", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.once:
        sys.stdout.write(msgspec.json.encode(index_once(options.once, options.format)).decode() + "\n")
        return
    work, shape = options.work.resolve(), SHAPES[options.shape]
    if options.memory:
        figures = measure_memory(work, options.documents)
    else:
        shape = shape._replace(active=options.active or shape.active)
        figures = measure_time(work, shape, options.documents, options.repeats)
    sys.stdout.write(json.dumps(rounded(figures) | machine()) + "\n")


if __name__ == "__main__":
    main()
