"""`tegakari index` against the bare forward pass of the same batches.

    python -m benchmarks.index [--layers 2] [--documents 128] [--repeats 3]

Layers of gemma-2-2b's and the study's shapes, random weights, about 500 active features. A round runs the forward pass
alone over all batches, then `index` into an empty store; a figure is the median over rounds of the ratio of the two.
Neither includes reading models from disk; `index` includes all other work: tokenizing, encoding, writing shards,
explained variance, merging, publishing. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from rich.console import Console
from rich.table import Table

from benchmarks.case import Shape, batches, classifier_of, loading_seconds, make_case, texts, with_store
from benchmarks.machine import add_clock_option, clock_of, machine, rounded
from tegakari.indexer.corpus import read_documents
from tegakari.indexer.pipeline import index
from tegakari.indexer.shard import shard_documents
from tegakari.models.classifier import Classifier
from tegakari.models.tokens import Tokenized
from tegakari.schemas.config import Config
from tegakari.schemas.run import RunManifest

WORK = Path("benchmarks/work")

console = Console(width=120)


class Round(NamedTuple):
    """Seconds of one round."""

    forward: float
    indexed: float
    """`index` without reading the models"""
    stages: dict[str, float]
    """wall time of the stages of `index`"""


class Measurement(NamedTuple):
    """All rounds, and the tokens and models they ran on."""

    rounds: list[Round]
    tokens: int
    """of all documents, with special tokens and without padding"""
    padding: float
    """share of padding in the tokens of all batches"""
    manifest: RunManifest

    @property
    def ratio(self) -> float:
        return statistics.median(round_.indexed / round_.forward for round_ in self.rounds)


def shard_batches(config: Config, classifier: Classifier) -> list[list[Tokenized]]:
    """Batches of `index`: documents of one shard and similar length."""
    documents = read_documents(Path(config.corpus.path), config.index.split)
    tokenized = zip([document.label for document in documents], classifier.tokenize(texts(config)), strict=True)
    by_label = [tokens for _, tokens in sorted(tokenized, key=lambda pair: pair[0])]
    size = shard_documents(config.index.shard_documents, classifier.device.type)
    return [
        batch
        for start in range(0, len(by_label), size)
        for batch in batches(by_label[start : start + size], config.index.batch_tokens)
    ]


def forward_seconds(classifier: Classifier, groups: list[list[Tokenized]], now: Callable[[], float]) -> float:
    start = now()
    for group in groups:
        classifier.run(classifier.batch(group)).logits.cpu()
    return now() - start


def measure(config: Config, repeats: int, clock: str = "perf_counter") -> Measurement:
    """Run the forward pass and `index` in turn, each `index` into a new store."""
    classifier = classifier_of(config)
    groups = shard_batches(config, classifier)
    now = getattr(time, clock)
    forward_seconds(classifier, groups[:1], now)
    rounds = []
    manifest: RunManifest | None = None
    for _ in range(repeats):
        forward = forward_seconds(classifier, groups, now)
        loading = loading_seconds(config, now)
        store = Path(tempfile.mkdtemp(prefix="store-", dir=Path(config.index.store).parent))
        start = now()
        manifest = index(with_store(config, store)).manifest
        rounds.append(Round(forward, now() - start - loading, manifest.timings))
        shutil.rmtree(store)
        console.print(f"forward {forward:.2f} s, index {rounds[-1].indexed:.2f} s, {manifest.timings}")
    assert manifest is not None
    tokens = sum(len(document) for group in groups for document in group)
    padded = sum(max(len(document) for document in group) * len(group) for group in groups)
    return Measurement(rounds, tokens, 1 - tokens / padded, manifest)


def show(measurement: Measurement) -> None:
    table = Table(title="Index against the bare forward pass", title_justify="left")
    for column in ("", "median s", "tokens/s", "x forward"):
        table.add_column(column, justify="left" if not column else "right")
    forward = statistics.median(round_.forward for round_ in measurement.rounds)
    indexed = statistics.median(round_.indexed for round_ in measurement.rounds)
    for name, seconds, ratio in (("forward pass", forward, 1.0), ("index", indexed, measurement.ratio)):
        table.add_row(name, f"{seconds:.2f}", f"{measurement.tokens / seconds:,.0f}", f"{ratio:.3f}")
    for name in measurement.rounds[0].stages:
        table.add_row(
            f"  {name}, wall", f"{statistics.median(round_.stages[name] for round_ in measurement.rounds):.2f}"
        )
    console.print(table)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Index against the bare forward pass of the same batches.")
    parser.add_argument("--layers", type=int, default=2, help="of gemma-2-2b's shapes")
    parser.add_argument("--documents", type=int, default=128)
    parser.add_argument("--repeats", type=int, default=3, help="rounds")
    parser.add_argument("--d-model", type=int, default=2304, help="smaller for a trial; all widths follow")
    parser.add_argument("--work", type=Path, default=WORK, help="directory for models and stores")
    add_clock_option(parser)
    options = parser.parse_args(arguments)
    width = options.d_model
    shape = Shape(
        options.layers,
        width,
        4 * width,
        head_dim=width // 9,
        vocabulary=4096,
        d_sae=4 * width,
        active=round(500 * width / 2304),
    )
    root = options.work / f"index-{options.layers}x{width}-{options.documents}"
    measurement = measure(make_case(root, shape, options.documents, labels=2), options.repeats, clock_of(options))
    show(measurement)
    manifest = measurement.manifest
    suffix = "_cpu" if not torch.cuda.is_available() else ""
    result = {
        f"index_over_forward{suffix}": measurement.ratio,
        "padding_share": measurement.padding,
        "index_tokens_per_second": measurement.tokens
        / statistics.median(round_.indexed for round_ in measurement.rounds),
        "active_features": manifest.activations / manifest.corpus.documents / len(manifest.saes.layers),
        "layers": options.layers,
        "documents": options.documents,
        "tokens": measurement.tokens,
        "clock": clock_of(options),
        "dtype": manifest.classifier.dtype,
    }
    sys.stdout.write(json.dumps(rounded(result) | machine()) + "\n")


if __name__ == "__main__":
    main()
