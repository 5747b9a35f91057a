"""One merge of synthetic partials, by the `tegakari` and `benchmarks` of PYTHONPATH, in a process of its own.

    python -P benchmarks/merge_process.py generate|merge DIRECTORY SIZE [THREADS]

SIZE is a JSON object of the fields of `benchmarks.study_scale.Size`. `generate` uses only what commit d8cd02c has as
well, and `merge` calls the merge that there is. It writes one JSON object: seconds, processor seconds, peak memory.
"""

from __future__ import annotations

import json
import multiprocessing
import resource
import shutil
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from benchmarks import study_scale
from benchmarks.study_scale import TOP_TOKENS, Size, _documents, _write_shard
from tegakari.indexer.partial import open_partial, partial_exists
from tegakari.indexer.shard import IndexedDocument, Shard, plan_shards

SEED = 0


def shards_of(size: Size) -> list[Shard]:
    return plan_shards(_documents(SEED, size), 128, repr(size))


def generate(directory: Path, size: Size) -> None:
    """Write the partials that are missing; many, in two processes."""
    missing = [shard for shard in shards_of(size) if not partial_exists(directory / "shards", shard.key)]
    if len(missing) < 8:
        for shard in missing:
            _write_shard(shard, directory, SEED, size)
        return
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
        n = len(missing)
        list(pool.map(_write_shard, missing, [directory] * n, [SEED] * n, [size] * n))


def merge(directory: Path, size: Size, threads: int | None) -> dict[str, float]:
    """Merge into a directory that is removed afterwards."""
    shards, documents, out = shards_of(size), _documents(SEED, size), directory / "merged"
    for left in (out, directory / "layers"):
        shutil.rmtree(left, ignore_errors=True)
    wall, processor = time.perf_counter(), time.process_time()
    if hasattr(study_scale, "merge_study"):
        from tegakari.indexer.executors import InProcess

        activations = study_scale.merge_study(directory, out, size, documents, shards, InProcess(threads)).activations
    else:
        activations = merge_before(directory, out, size, documents, shards)
    figures = {
        "seconds": time.perf_counter() - wall,
        "processor_seconds": time.process_time() - processor,
        "peak_megabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "activations": activations,
    }
    shutil.rmtree(out)
    return figures


def merge_before(directory: Path, out: Path, size: Size, documents: list[IndexedDocument], shards: list[Shard]) -> int:
    """The merge of d8cd02c."""
    from tegakari.indexer.layer_tables import LayerFacts  # type: ignore[attr-defined]
    from tegakari.indexer.merge import Merger, MergeSettings  # type: ignore[attr-defined]
    from tegakari.store.sql.writer import RunWriter

    partials = [open_partial(directory / "shards", shard.key) for shard in shards]
    labels = [f"label-{number:03d}" for number in range(size.labels)]
    facts = dict.fromkeys(range(size.layers), LayerFacts(size.d_model, size.d_sae, "relu", None, None))
    with RunWriter(out) as writer:
        merger = Merger(writer, documents, labels, partials, MergeSettings("head", 1.0, TOP_TOKENS), {})
        merger.merge_layers(facts)
        merger.merge_documents()
    return writer.activations  # type: ignore[attr-defined]


def main(action: str, directory: str, size: str, threads: str = "") -> None:
    if action == "generate":
        generate(Path(directory), Size(**json.loads(size)))
    else:
        figures = merge(Path(directory), Size(**json.loads(size)), int(threads) if threads else None)
        sys.stdout.write(json.dumps(figures) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
