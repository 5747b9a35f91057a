"""Synthetic runs of the study's size, through the real merge, writer and publication.

26 layers x 9,216 features x 107 labels, 12,650 documents, about 500 active features a document and layer: nothing of it
comes from a model, and run.json says so (`synthetic`). Shapes are plausible: densities and activations are log-normal,
about one feature in sixteen is specific to a label, a few are shared, some are dead.

    python -m benchmarks.study_scale STORE --runs 2 [--scale 0.1]
"""

from __future__ import annotations

import argparse
import hashlib
import multiprocessing
import shutil
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from rich.console import Console

from tegakari.indexer.candidates import Candidates
from tegakari.indexer.executors import Executor, InProcess
from tegakari.indexer.layer_facts import LayerFacts
from tegakari.indexer.layer_statistics import MergeSettings
from tegakari.indexer.merge import Assembler, Assembly
from tegakari.indexer.merge_memory import GIGABYTE
from tegakari.indexer.merged_layer import LayerMerge
from tegakari.indexer.moments import label_moments
from tegakari.indexer.partial import DocumentPartial, LayerPartial, open_partial, partial_exists, write_partial
from tegakari.indexer.predictions import Predictions
from tegakari.indexer.shard import IndexedDocument, Shard, plan_shards
from tegakari.models.tokens import Tokenized
from tegakari.schemas.run import FORMAT, ClassifierInfo, CorpusInfo, Locations, RunManifest, SaeInfo
from tegakari.store import vectors
from tegakari.store.blocks.activations import Activations, ordered
from tegakari.store.disk.layout import run_directory, work_directory
from tegakari.store.disk.publish import publish, read_manifest
from tegakari.store.sql.writer import RunWriter

TOP_TOKENS = 100
POSITIONS = 40
"""Countable positions of a document"""
WORDS = "今日 商品 の 軽自動車 会議 は 新しい 予約 を お願い します 味噌汁 面接 物件 実験 キャンペーン です 。".split()  # noqa: SIM905


class Size(NamedTuple):
    """How large a run is."""

    layers: int = 26
    d_sae: int = 9216
    labels: int = 107
    documents: int = 12_650
    active: int = 500
    d_model: int = 2304

    def scaled(self, scale: float) -> Size:
        """A smaller run of the same shape, for trying things."""
        return self._replace(
            layers=max(2, round(self.layers * scale)),
            d_sae=max(64, round(self.d_sae * scale)),
            documents=max(self.labels * 3, round(self.documents * scale)),
            active=max(4, round(self.active * scale)),
        )


def make_study_run(store: Path, name: str, seed: int, size: Size, *, with_vectors: bool = False) -> RunManifest:
    """Write and publish one run; an existing run is returned."""
    if run_directory(store, name).is_dir():
        return read_manifest(run_directory(store, name))
    started = time.perf_counter()
    work = work_directory(store, name)
    fingerprint = hashlib.sha256(repr((seed, size)).encode()).hexdigest()
    documents, shards = write_study_shards(work, size, seed, processes=2)
    generated = time.perf_counter()
    shutil.rmtree(work / "staged", ignore_errors=True)
    predictions = Predictions([open_partial(work / "shards", shard.key, layer=-1) for shard in shards])
    assembly = merge_study(work, work / "staged", size, documents, shards)
    if with_vectors:
        rng = np.random.default_rng(seed)
        directions = {
            layer: rng.standard_normal((size.d_sae, size.d_model), dtype=np.float32) for layer in range(size.layers)
        }
        texts = [document.text for document in documents]
        vectors.write_vectors(work / "staged", directions, predictions.embeddings(), texts)
    merged = time.perf_counter()
    manifest = RunManifest(
        format=FORMAT,
        run=name,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        fingerprint=fingerprint,
        classifier=ClassifierInfo(
            sha256=fingerprint,
            architecture="synthetic",
            d_model=size.d_model,
            layers=size.layers,
            max_length=512,
            dtype="float32",
            head="last",
        ),
        saes=SaeInfo(
            sha256=fingerprint,
            layers=list(range(size.layers)),
            architecture="relu",
            widths=[size.d_sae] * size.layers,
            max_norms=[None] * size.layers,
        ),
        locations=Locations(classifier="", saes=""),
        corpus=CorpusInfo(
            source="synthetic",
            content_sha256=fingerprint,
            split="eval",
            documents=len(documents),
            labels=size.labels,
        ),
        pooling="head",
        variety_threshold=1.0,
        top_tokens=TOP_TOKENS,
        positions=POSITIONS * len(documents),
        activations=assembly.activations,
        skipped=[],
        scores=assembly.scores,
        kernels="none",
        versions={},
        timings={"generate": generated - started, "merge": merged - generated},
        synthetic=True,
        files=[],
    )
    manifest = publish(store, work / "staged", manifest)
    shutil.rmtree(work)
    return manifest


def write_study_shards(
    work: Path, size: Size, seed: int = 0, *, shard_documents: int = 128, processes: int = 1
) -> tuple[list[IndexedDocument], list[Shard]]:
    """Write the partials of a run that are missing below a directory, and return its documents and shards."""
    documents = _documents(seed, size)
    shards = plan_shards(documents, shard_documents, hashlib.sha256(repr((seed, size)).encode()).hexdigest())
    missing = [shard for shard in shards if not partial_exists(work / "shards", shard.key)]
    if processes == 1:
        for shard in missing:
            _write_shard(shard, work, seed, size)
        return documents, shards
    with ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn")) as pool:
        list(pool.map(_write_shard, missing, [work] * len(missing), [seed] * len(missing), [size] * len(missing)))
    return documents, shards


def merge_study(
    work: Path,
    staged: Path,
    size: Size,
    documents: Sequence[IndexedDocument],
    shards: Sequence[Shard],
    executor: Executor = InProcess(),
    memory: int = GIGABYTE // 2,
) -> Assembly:
    """Merge the partials in `work`, by the code of `index`, and write what comes from them into `staged`."""
    keys, settings = [shard.key for shard in shards], MergeSettings("head", 1.0, TOP_TOKENS)
    merge = LayerMerge(work / "shards", keys, work / "layers", size.labels, settings, memory)
    predictions = Predictions([open_partial(work / "shards", key, layer=-1) for key in keys])
    facts = LayerFacts(size.d_model, size.d_sae, "relu", max_norm=None, quality=None)
    names = [f"コミュニティ{number:03d}" for number in range(size.labels)]
    with RunWriter(staged) as writer:
        assembler = Assembler(writer, documents, names, predictions, settings)
        return assembler.write(merge, dict.fromkeys(range(size.layers), facts), executor, POSITIONS * len(documents))


def _documents(seed: int, size: Size) -> list[IndexedDocument]:
    rng = np.random.default_rng([seed, 1])
    documents = []
    for number in range(size.documents):
        words = [WORDS[index] for index in rng.integers(0, len(WORDS), 40)]
        ends = np.cumsum([len(word) for word in words]).tolist()
        spans = [(0, 0), *zip([0, *ends[:-1]], ends, strict=True)]
        tokens = Tokenized([2, *range(10, 50)], spans, [True] + [False] * 40, False)
        documents.append(
            IndexedDocument(number, f"doc-{number:06d}", number % size.labels, "eval", "".join(words), tokens)
        )
    return documents


def _write_shard(shard: Shard, work: Path, seed: int, size: Size) -> None:
    torch.set_num_threads(1)
    layers = {layer: _layer(shard, layer, seed, size) for layer in range(size.layers)}
    numbers = np.array([document.number for document in shard.documents], np.int32)
    rng = np.random.default_rng([seed, 2, shard.documents[0].number])
    label_ids = np.array([document.label_id for document in shard.documents])
    predicted = np.where(rng.random(len(numbers)) < 0.84, label_ids, rng.integers(0, size.labels, len(numbers)))
    logit = np.full(len(numbers), 3, np.float32)
    document_partial = DocumentPartial(
        numbers,
        predicted.astype(np.int32),
        np.where(predicted == label_ids, logit, 1).astype(np.float32),
        logit,
        rng.standard_normal((len(numbers), size.d_model), dtype=np.float32),
    )
    write_partial(work / "shards", shard, POSITIONS * len(numbers), layers, document_partial, {})


def _layer(shard: Shard, layer: int, seed: int, size: Size) -> LayerPartial:
    shape_rng = np.random.default_rng([seed, 3, layer])
    density = shape_rng.lognormal(0, 1.5, size.d_sae)
    density[shape_rng.random(size.d_sae) < 0.05] = 0
    for _ in range(4):  # the excess over 0.9 is distributed over the others
        density = np.minimum(density * size.active / density.sum(), 0.9)
    density = density.astype(np.float32)
    owner = shape_rng.integers(0, size.labels * 16, size.d_sae)  # one feature in sixteen has a label of its own
    owned = owner == np.array([item.label_id for item in shard.documents])[:, None]  # [documents, d_sae]
    density = np.where(owned, np.maximum(density, 0.6), density)
    rng = np.random.default_rng([seed, 4, layer, shard.documents[0].number])
    shape = (len(shard.documents), size.d_sae)
    document, feature = np.nonzero(rng.random(shape, dtype=np.float32) < density)
    activation = rng.lognormal(0, 0.7, len(feature)).astype(np.float32)
    activation[owned[document, feature]] *= 4
    last = np.zeros(shape, np.float32)
    last[document, feature] = activation
    pooled = torch.from_numpy(np.stack([last, last * 1.5, last * 0.3], axis=1))
    moments = label_moments(pooled, shard.labels.values())
    documents_active = [(part > 0).sum(0, dtype=torch.int32) for part in pooled.split(list(shard.labels.values()))]
    numbers = np.array([item.number for item in shard.documents], np.int32)
    position = rng.integers(1, 41, len(feature)).astype(np.int32)
    candidates = Candidates(feature.astype(np.int32), activation, numbers[document], position)
    return LayerPartial(
        torch.stack([part.mean for part in moments]).numpy(),
        torch.stack([part.m2 for part in moments]).numpy(),
        torch.stack(documents_active).numpy(),
        np.bincount(feature, minlength=size.d_sae) * 10,
        np.bincount(feature, activation.astype(np.float64), minlength=size.d_sae) * 10,
        # A real worker's floor lets through about its share of the corpus' strongest positions.
        _strongest(candidates, max(4, 4 * TOP_TOKENS // size.labels)),
        ordered([Activations(feature.astype(np.int32), numbers[document], activation)]),
        outliers=0,
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Write runs `study-0`, `study-1`, ... into a store."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store", type=Path)
    parser.add_argument("--runs", type=int, default=2)
    parser.add_argument("--scale", type=float, default=1.0)
    options = parser.parse_args(arguments)
    size = Size() if options.scale == 1 else Size().scaled(options.scale)
    for number in range(options.runs):
        manifest = make_study_run(options.store, f"study-{number}", number, size)
        Console().print(f"{manifest.run}: {manifest.activations:,} activations, {manifest.timings}")


def _strongest(candidates: Candidates, n: int) -> Candidates:
    order = np.lexsort((candidates.position, candidates.document, -candidates.activation, candidates.feature))
    feature = candidates.feature[order]
    order = order[np.arange(len(order)) - np.searchsorted(feature, feature) < n]
    return Candidates(*(array[order] for array in candidates))


if __name__ == "__main__":
    main()
