"""gemma-2-2b's real configuration with random weights, and 26 random SAEs of 9,216 features, about 500 active.

    python -m benchmarks.full_size [--documents 8] [--layers 26]

The forward pass of the documents and `index` on them, as in `benchmarks.index`; bfloat16 on a GPU, float32 on a CPU,
where a few documents show that it runs, and its memory. Models take 15 GB of disk (removed afterwards unless --keep)
and are mapped from disk on a CPU. Refuses to start without enough memory. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from rich.console import Console

from benchmarks.case import Shape, make_case, scaled
from benchmarks.environments import WORK
from benchmarks.index import measure, show
from benchmarks.machine import machine, rounded

console = Console(width=120)

BYTES_NEEDED = 12 * 2**30
"""Free memory needed for 26 layers in float32 on a CPU: the weights while they are created, with a margin"""


def available_bytes() -> int:
    """Memory available without swapping, by Linux's /proc/meminfo."""
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable"):
            return int(line.split()[1]) * 1024
    return 0


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="gemma-2-2b's configuration and 26 SAEs, random weights.")
    gpu = torch.cuda.is_available()
    parser.add_argument("--documents", type=int, default=1280 if gpu else 8)
    parser.add_argument("--layers", type=int, default=Shape().layers)
    parser.add_argument("--d-model", type=int, default=Shape().d_model, help="smaller for a trial; all widths follow")
    parser.add_argument("--repeats", type=int, default=3 if gpu else 1)
    parser.add_argument("--keep", action="store_true", help="keep the models for the next run")
    parser.add_argument("--work", type=Path, default=WORK, help="directory for models and stores")
    options = parser.parse_args(arguments)
    width, full = options.d_model, Shape()
    share = width / full.d_model
    shape = scaled(options.layers, width)
    needed = BYTES_NEEDED * share**2 * options.layers / full.layers
    if not gpu and available_bytes() < needed:
        parser.error(f"{needed / 2**30:.0f} GiB of memory are needed, {available_bytes() / 2**30:.0f} are free")
    root = options.work.resolve() / f"full-size-{options.layers}x{width}-{options.documents}"
    config = make_case(root, shape, options.documents, labels=2)
    measurement = measure(config, options.repeats)
    show(measurement)
    if not options.keep:
        shutil.rmtree(root)
    forward = statistics.median(round_.forward for round_ in measurement.rounds)
    indexed = statistics.median(round_.indexed for round_ in measurement.rounds)
    encoded = statistics.median(round_.stages["encode"] for round_ in measurement.rounds)
    manifest = measurement.manifest
    result = {
        "index_over_forward": measurement.ratio if gpu else None,
        "full_size_index_over_forward_cpu": None if gpu else measurement.ratio,
        "full_size_encode_stage_over_forward": encoded / forward,
        "forward_tokens_per_second": measurement.tokens / forward,
        "index_tokens_per_second": measurement.tokens / indexed,
        "active_features": manifest.activations / manifest.corpus.documents / len(manifest.saes.layers),
        "padding_share": measurement.padding,
        "peak_gigabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9,
        "layers": options.layers,
        "documents": options.documents,
        "tokens": measurement.tokens,
        "dtype": manifest.classifier.dtype,
        "device": torch.cuda.get_device_name() if gpu else "cpu",
    }
    sys.stdout.write(json.dumps(rounded(result) | machine()) + "\n")


if __name__ == "__main__":
    main()
