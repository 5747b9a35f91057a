"""The whole of `index` against the best forward pass of the same documents, and its equality from run to run."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from benchmarks.case import classifier_of, texts, with_store
from benchmarks.gpu.clock import seconds
from tegakari.indexer.pipeline import index
from tegakari.models.attention import choose_attention
from tegakari.models.classifier import Classifier
from tegakari.models.tokens import Tokenized
from tegakari.schemas.config import Config

BUDGETS = (8192, 16384)
"""Padded tokens per batch of the bare forward pass, of which the best counts."""


def once(work: Callable[[], object], device: torch.device) -> float:
    """Seconds of one run."""
    return seconds(work, device, repeats=1, warm=0)


def forward(classifier: Classifier, documents: list[Tokenized], budget: int) -> None:
    """The bare forward pass of all documents in the best order for it: sorted by length."""
    ordered = sorted(documents, key=len)
    outputs = [classifier.run(batch).logits for _, batch in classifier.batches(ordered, budget)]
    torch.cat(outputs).cpu()


def content(store: Path) -> dict[str, str]:
    """SHA-256 of the files of a store's runs that do not name the time, by path."""
    files = (
        path for path in sorted(store.rglob("*")) if path.is_file() and path.suffix in (".parquet", ".npy", ".arrow")
    )
    return {path.relative_to(store).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def measure(config: Config, smoke: bool = False) -> dict[str, float]:
    """Run the forward pass and `index` twice: a table, and the figures."""
    classifier = classifier_of(config)
    device = classifier.device
    documents = classifier.tokenize(texts(config))
    classifier = choose_attention(classifier, documents)  # as `index` does
    tokens = sum(map(len, documents))
    forward(classifier, documents[:64], BUDGETS[0])
    passes = {budget: once(lambda budget=budget: forward(classifier, documents, budget), device) for budget in BUDGETS}
    best = min(passes.values())
    table = Table(title=f"index of {len(documents):,} documents, {tokens:,} tokens", title_justify="left")
    for column in ("", "s", "tokens/s", "x best forward"):
        table.add_column(column, justify="right" if column else "left")
    for budget, time in passes.items():
        table.add_row(
            f"forward, {budget:,} tokens a batch", f"{time:.2f}", f"{tokens / time:,.0f}", f"{time / best:.2f}"
        )
    figures: dict[str, float] = {"forward_tokens_per_second": tokens / best}
    contents = []
    for number in range(1 if smoke else 2):
        store = Path(tempfile.mkdtemp(prefix="store-", dir=Path(config.index.store).parent))
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()
        timings: dict[str, float] = {}

        def run(store: Path = store, timings: dict[str, float] = timings) -> None:
            timings.update(index(with_store(config, store)).manifest.timings)

        time = once(run, device)
        name = ("index, files new", "index again")[number]
        table.add_row(name, f"{time:.2f}", f"{tokens / time:,.0f}", f"{time / best:.2f}")
        for stage, stage_time in timings.items():
            table.add_row(f"  {stage}", f"{stage_time:.2f}", "", f"{stage_time / best:.2f}")
        contents.append(content(store))
        shutil.rmtree(store)
        figures["index_over_forward"] = time / best
        figures["encode_stage_over_forward"] = timings["encode"] / best
        figures["merge_seconds"] = timings["merge"]
        if torch.cuda.is_available():
            figures["index_peak_gigabytes"] = torch.cuda.max_memory_allocated() / 1e9
    figures["index_files_that_differ"] = sum(contents[0][name] != contents[-1].get(name) for name in contents[0])
    Console(width=120).print(table)
    return figures
