"""What an index of a given size takes on GPUs: hours, money, bytes and memory, from measured rates.

    python -m benchmarks.bill [--documents 1000000] [--gpus 8,16,64] [--features 16384,65536]

Every rate is a figure of benchmarks/RESULTS.md or benchmarks/gpu/*.json; the laws are those that `benchmarks.scale`
measures: everything is proportional to the product of the sizes that are named with a rate. The last line is one JSON
object.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from typing import NamedTuple

from rich.console import Console
from rich.table import Table

from tegakari.indexer.merge_memory import GIGABYTE, SMALLEST_RANGE, fixed_bytes
from tegakari.indexer.shard import DOCUMENTS

console = Console(width=130)


class Run(NamedTuple):
    """Sizes of a run."""

    documents: int = 1_000_000
    tokens: int = 170
    """per document"""
    layers: int = 26
    features: int = 16_384
    """per layer"""
    labels: int = 1000
    active: int = 500
    """stored activations per document and layer"""
    top_tokens: int = 100
    d_model: int = 2304
    shard_documents: int = DOCUMENTS["cuda"]
    characters: int = 300
    """per document"""

    @property
    def places(self) -> int:
        return self.layers * self.features

    @property
    def shards(self) -> int:
        return -(-self.documents // self.shard_documents)


class Rates(NamedTuple):
    """Measured rates: an H200 with gemma-2-2b's shapes and 9,216 features, one core of an AMD EPYC."""

    forward_tokens_per_s: float = 72_500
    """Forward pass, bfloat16, batches of 8,192 tokens by length."""
    encode_s: float = 1.9869 * 2 * 2304 / 727.2e12
    """Per position and feature: `gpu_encode_over_gemm` times the GEMM at `gemm_tflops`."""
    index_over_device: float = 4.32
    """Time of the stage `encode` over that of forward and encode: 252,240 tokens in 18.3 s, the first run of a machine,
    whose kernels were compiled in that time. It is the slowest that was measured, and the newest."""
    load_s: float = 12.5
    activation_s: float = 0.35 / 6.36e6
    """Per stored activation: read, ordered, written."""
    label_feature_s: float = 0.07 / (107 * 9216)
    """Per label and feature: statistics."""
    label_row_s: float = 0.37 / (107 * 9216)
    """Per row of feature_labels: order and DuckDB."""
    top_token_s: float = 0.2 / (100 * 9216)
    """Per row of top_tokens."""
    byte_s: float = 1e-9
    """Per byte read, copied or hashed."""
    explain_feature_s: float = 75e-6
    """Per feature, on threads."""
    explain_locked_s: float = 18e-6
    """Per feature, of it: Python code, which one thread at a time runs."""
    explain_token_s: float = 1.76 / 1_674_391
    """Per token: words of the corpus, on one thread."""
    gpu_hour: float = 2.5
    """Price, dollars."""


class Bill(NamedTuple):
    """What a run takes. Hours are wall hours."""

    device_hours: float
    """of all GPUs together: forward pass and encode, if nothing else took time."""
    shard_hours: float
    """until all shards are indexed, at `index_over_device`."""
    layer_hours: float
    """merge of all layers, on as many cores as there are layers, or fewer."""
    table_hours: float
    """assembly of the tables, by one process."""
    explain_hours: float
    """deterministic explanations, on threads of one process."""
    publish_hours: float
    """checksums of all files."""
    dollars: float
    """of GPUs: all while shards are indexed, one while the rest is done (`--only shards`, then `--only merge`)."""
    held_dollars: float
    """of GPUs, if all are held to the end (one command)."""
    run_gigabytes: float
    work_gigabytes: float
    """of the shards, without their entries of contexts, and of the merged layers."""
    layer_gigabytes: float
    """smallest index.merge_memory_gb"""
    document_gigabytes: float
    """documents in the memory of the command"""


MEASURED = Rates()


def bill(run: Run, gpus: int, cores: int = 16, rates: Rates = MEASURED) -> Bill:
    """Compute the bill of a run.

    Args:
        run: its sizes.
        gpus: that index shards.
        cores: of the machine that merges, which has one GPU.
        rates: measured.
    """
    tokens = run.documents * run.tokens
    device = tokens * (1 / rates.forward_tokens_per_s + run.places * rates.encode_s)
    shard = rates.load_s + device * rates.index_over_device / gpus
    activations = run.documents * run.active * run.layers
    label_features = run.labels * run.places
    label_documents = run.documents / run.labels
    shard_labels = 1 + (run.shard_documents - 1) / label_documents  # consecutive in the order of labels
    sums = run.shards * min(shard_labels, run.labels) * run.places * 3 * (8 + 8 + 4)
    offsets = run.shards * run.places * 3 * 8
    layer = (
        activations * rates.activation_s + label_features * rates.label_feature_s + (sums + offsets) * rates.byte_s
    ) / min(cores, run.layers)
    statistics = label_features * (9 * 4 + 3 * 4)
    orders = label_features * 2 * 4
    top_features = run.documents * run.layers * 20 * 8
    table = (
        label_features * rates.label_row_s
        + run.places * run.top_tokens * rates.top_token_s
        + (2 * statistics + orders + 2 * top_features) * rates.byte_s
    )
    explain = run.places * max(rates.explain_feature_s / min(cores, run.layers), rates.explain_locked_s)
    explain += tokens * rates.explain_token_s
    stored = (
        activations * 2.7  # an upper bound of tests/store/blocks/test_activations.py
        + statistics
        + orders
        + top_features
        + label_features * 40  # feature_labels in DuckDB
        + run.documents * run.d_model * 4
        + run.places * (run.top_tokens + 20) * 30  # top tokens and contexts
    )
    publish = stored * rates.byte_s
    work = sums + offsets + activations * 8 + run.documents * run.d_model * 4 + statistics + top_features
    rest = (layer + table + explain + publish) / 3600
    fixed = fixed_bytes(shards=run.shards, documents=run.documents, d_sae=run.features, top_tokens=run.top_tokens)
    documents = tokens * (13 + 12) + run.documents * (1000 + 3 * 2 * run.characters)
    return Bill(
        device / 3600,
        shard / 3600,
        layer / 3600,
        table / 3600,
        explain / 3600,
        publish / 3600,
        rates.gpu_hour * (gpus * shard / 3600 + rest),
        rates.gpu_hour * gpus * (shard / 3600 + rest),
        stored / GIGABYTE,
        work / GIGABYTE,
        (fixed + SMALLEST_RANGE) / GIGABYTE,
        documents / GIGABYTE,
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table and one JSON object."""
    parser = argparse.ArgumentParser(description="Bill of an index on GPUs.")
    parser.add_argument("--documents", type=int, default=Run().documents)
    parser.add_argument("--features", default="16384,65536", help="per layer")
    parser.add_argument("--gpus", default="8,16,64")
    parser.add_argument("--cores", type=int, default=16, help="of the machine that merges")
    options = parser.parse_args(arguments)
    bills = {
        (features, gpus): bill(Run(documents=options.documents, features=features), gpus, options.cores)
        for features in map(int, options.features.split(","))
        for gpus in map(int, options.gpus.split(","))
    }
    table = Table(title=f"Index of {options.documents:,} documents, by features and GPUs", title_justify="left")
    table.add_column("")
    for features, gpus in bills:
        table.add_column(f"{features:,}\n{gpus} GPUs", justify="right")
    for name in Bill._fields:
        table.add_row(name, *(f"{getattr(figures, name):,.2f}" for figures in bills.values()))
    console.print(table)
    result = {f"{features}x{gpus}": figures._asdict() for (features, gpus), figures in bills.items()}
    sys.stdout.write(json.dumps(result) + "\n")


if __name__ == "__main__":
    main()
