"""The strongest contexts of every feature: `tegakari index` against delphi and SAEDashboard, on the same model.

    python -m benchmarks.peers [--documents 384] [--repeats 3] [--dashboard-features 64]

One small Gemma 2 classifier with random weights, its SAEs, the same documents, float32, 20 contexts per feature. Each
tool has an environment and a process of its own with its model loaded, and runs once per round; a figure is the median
over rounds of its time over tegakari's of the same round. tegakari's time is that of `index` without reading the
models, and of reading the contexts of every feature from the run. delphi's time is that of its cache, its splits on
disk and its examples, one document per row; `packed` joins documents to rows of 256 tokens, delphi's default, which
loses the ends of documents. SAEDashboard runs on some features of one layer; its time for all features is extrapolated.
The last line is one JSON object.
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
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from safetensors.torch import save_file

from benchmarks import environments
from benchmarks.case import SMALL, Shape, classifier_of, loading_seconds, make_case, texts, with_store
from benchmarks.machine import add_clock_option, clock_of, machine, rounded
from benchmarks.peer import Peer
from tegakari.indexer.pipeline import index
from tegakari.models.tokens import make_batch
from tegakari.schemas.config import Config
from tegakari.store.queries.rows import token_rows
from tegakari.store.reader import Run

MAX_LENGTH = 128
PACKED = 256
CONTEXTS = 20

console = Console(width=120)


class Strongest(NamedTuple):
    """Strongest position of every feature; arrays [layers, d_sae]."""

    document: np.ndarray
    position: np.ndarray
    activation: np.ndarray


def write_documents(config: Config, file: Path) -> None:
    """Write the documents for delphi and SAEDashboard: int64 `tokens` and `special` [N, 128], `packed` [M, 256].

    Right-padded: attention is causal, so padding changes nothing before it.
    """
    classifier = classifier_of(config)
    documents = classifier.tokenize(texts(config))
    assert classifier.tokenizer.pad_token_id == 0
    tokens = torch.zeros(len(documents), MAX_LENGTH, dtype=torch.int64)
    special = torch.ones(len(documents), MAX_LENGTH, dtype=torch.int64)
    batch = make_batch(documents, 0)
    tokens[:, : batch.input_ids.shape[1]] = batch.input_ids
    for row, document in enumerate(documents):
        special[row, document.positions] = 0
    joined = torch.tensor([token for document in documents for token in document.input_ids])
    packed = joined[: len(joined) // PACKED * PACKED].reshape(-1, PACKED)
    save_file({"tokens": tokens, "special": special, "packed": packed.contiguous()}, file)


def index_and_read(config: Config, now: Callable[[], float]) -> tuple[float, Strongest]:
    """Seconds of `index` and of reading the contexts of every feature, and the strongest positions."""
    store = Path(tempfile.mkdtemp(prefix="store-", dir=Path(config.index.store).parent))
    loading = loading_seconds(config, now)
    start = now()
    manifest = index(with_store(config, store)).manifest
    run = Run(store / "runs" / manifest.run)
    features = sum(manifest.saes.widths)
    contexts = [token_rows(run, feature, CONTEXTS) for feature in range(features)]
    seconds = now() - start - loading
    assert sum(map(len, contexts)) > features
    top = run.blocks.top_positions
    shape = (len(manifest.saes.layers), -1)
    strongest = Strongest(
        top.document[:, 0].reshape(shape), top.position[:, 0].reshape(shape), top.activation[:, 0].reshape(shape)
    )
    shutil.rmtree(store)
    return seconds, Strongest(*(np.array(column) for column in strongest))


def disagreements(strongest: Strongest, of_peer: Sequence[Sequence[Sequence[float]]]) -> int:
    """Number of features with another strongest position, except where both positions are equally strong."""
    document, position, activation = np.moveaxis(np.array(of_peer), 2, 0)
    same = (document == strongest.document) & (position == strongest.position)
    silent = (activation == 0) & (strongest.document < 0)
    tied = np.isclose(activation, strongest.activation, rtol=1e-5, atol=0)
    return int((~(same | silent | tied)).sum())


def timed_rounds(contenders: dict[str, Callable[[], float]], repeats: int) -> dict[str, list[float]]:
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(repeats):
        for name, contender in contenders.items():
            times[name].append(contender())
            console.print(f"{name}: {times[name][-1]:.1f} s")
    return times


def compare(
    config: Config, root: Path, repeats: int, dashboard_features: int, shape: Shape, clock: str
) -> dict[str, float | int]:
    """Run all rounds.

    Raises:
        RuntimeError: a peer does not start.
    """
    write_documents(config, root / "documents.safetensors")
    delphi = Peer(environments.DELPHI.make(), "benchmarks.peer_delphi", (root, "documents", CONTEXTS, clock))
    packed = Peer(environments.DELPHI.make(), "benchmarks.peer_delphi", (root, "packed", CONTEXTS, clock))
    contenders = {"delphi": delphi, "delphi, packed": packed}
    if dashboard_features:
        contenders["SAEDashboard"] = Peer(
            environments.SAE_DASHBOARD.make(),
            "benchmarks.peer_saedashboard",
            (root, 0, dashboard_features, CONTEXTS, clock),
        )
    peer_results: dict[str, Any] = {}
    strongest: list[Strongest] = []

    def run_tegakari() -> float:
        seconds, positions = index_and_read(config, getattr(time, clock))
        strongest.append(positions)
        return seconds

    def run_peer(name: str) -> float:
        peer_results[name] = contenders[name].request()
        return peer_results[name]["seconds"]

    times = timed_rounds({"tegakari": run_tegakari} | {name: partial(run_peer, name) for name in contenders}, repeats)
    for peer in contenders.values():
        peer.close()
    features = shape.layers * shape.d_sae
    share = dict.fromkeys(times, 1.0) | {"SAEDashboard": dashboard_features / features}
    ratio = {
        name: statistics.median(a / share[name] / b for a, b in zip(seconds, times["tegakari"], strict=True))
        for name, seconds in times.items()
    }
    _show(times, ratio, share, {name: peer.version for name, peer in contenders.items()})
    result: dict[str, float | int] = {
        "delphi_over_index": ratio["delphi"],
        "delphi_packed_over_index": ratio["delphi, packed"],
        "features": features,
        "top_positions_that_differ": disagreements(strongest[-1], peer_results["delphi"]["top"]),
    }
    if dashboard_features:
        activations = strongest[-1].activation[0, :dashboard_features]
        result |= {
            "saedashboard_over_index_multiplied_out": ratio["SAEDashboard"],
            "saedashboard_features": dashboard_features,
            "saedashboard_top_activations_that_differ": int(
                (~np.isclose(activations, peer_results["SAEDashboard"]["top"], rtol=1e-3, atol=1e-3)).sum()
            ),
        }
    return result


def _show(
    times: dict[str, list[float]], ratio: dict[str, float], share: dict[str, float], versions: dict[str, str]
) -> None:
    table = Table(title="20 strongest contexts of every feature", title_justify="left")
    for column in ("", "median s", "of all features", "x tegakari"):
        table.add_column(column, justify="left" if not column else "right")
    for name, seconds in times.items():
        label = f"{name} {versions.get(name, '')}".strip()
        table.add_row(label, f"{statistics.median(seconds):.1f}", f"{share[name]:.3f}", f"{ratio[name]:.2f}")
    console.print(table)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Index against delphi and SAEDashboard on the same small model.")
    parser.add_argument(
        "--documents", type=int, default=384, help="a multiple of 32, at least 96: delphi drops the remainder"
    )
    parser.add_argument("--layers", type=int, default=SMALL.layers)
    parser.add_argument("--repeats", type=int, default=3, help="rounds")
    parser.add_argument("--dashboard-features", type=int, default=64, help="of layer 0; 0: without SAEDashboard")
    parser.add_argument("--work", type=Path, default=environments.WORK, help="directory for models and stores")
    add_clock_option(parser)
    options = parser.parse_args(arguments)
    shape = SMALL._replace(layers=options.layers)
    root = (options.work / f"peers-{options.layers}-{options.documents}").resolve()
    config = make_case(root, shape, options.documents)
    config = msgspec.structs.replace(
        config,
        classifier=msgspec.structs.replace(config.classifier, max_length=MAX_LENGTH),
        index=msgspec.structs.replace(config.index, top_tokens=CONTEXTS),
    )
    result = compare(config, root, options.repeats, options.dashboard_features, shape, clock_of(options))
    run = {"documents": options.documents, "layers": options.layers, "dtype": "float32", "clock": clock_of(options)}
    sys.stdout.write(json.dumps(rounded(result | run) | machine()) + "\n")


if __name__ == "__main__":
    main()
