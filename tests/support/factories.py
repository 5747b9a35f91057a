"""Small random runs, written by the real merge and published like any other: `make_run`.

`random_case` draws the documents and activations of such a run, for tests that compute expected results from them.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from tegakari.indexer.candidates import Candidates
from tegakari.indexer.executors import Executor, InProcess
from tegakari.indexer.layer_facts import LayerFacts
from tegakari.indexer.layer_statistics import MergeSettings
from tegakari.indexer.merge import Assembler, Assembly
from tegakari.indexer.merge_memory import GIGABYTE
from tegakari.indexer.merged_layer import LayerMerge
from tegakari.indexer.moments import label_moments
from tegakari.indexer.partial import DocumentPartial, LayerPartial, open_partial, write_partial
from tegakari.indexer.predictions import Predictions
from tegakari.indexer.shard import IndexedDocument, Shard, plan_shards
from tegakari.models.explained_variance import LayerQuality
from tegakari.models.tokens import Tokenized
from tegakari.schemas.config import POOLINGS, Pooling
from tegakari.schemas.run import FORMAT, ClassifierInfo, CorpusInfo, Locations, RunManifest, SaeInfo
from tegakari.store.blocks.activations import Activations, ordered
from tegakari.store.context_writer import write_contexts, write_probe_bits, write_probes
from tegakari.store.disk.layout import work_directory
from tegakari.store.disk.publish import publish
from tegakari.store.effects import write_effects
from tegakari.store.sql.writer import RunWriter
from tests.support.plain_candidates import strongest_candidates
from tests.support.plain_contexts import plain_contexts, plain_probe_bits, plain_probes

LABELS = ("自動車", "車/軽", "a?b#c&d=e+f %2F", "🚗💨", "مجتمع السيارات", "食べ物 と 料理")
"""Plain text, a slash, characters with a meaning in URLs, only emoji, right to left, spaces."""

UNEVEN_COUNTS = (6, 5, 1, 7, 2, 0)
"""Documents per label: one label has a single document, one has none."""

WORDS = (
    "今日は",
    "軽トラ",
    "で",
    "買い物",
    "に",
    "行き",
    "ました",
    "味噌汁",
    "😀",
    "car",
    "،",
    "السيارة",
    "e\u0301",
    "。",
)
BOS = 2
D_MODEL = 8
SHARD_DOCUMENTS = 4
TOP_TOKENS = 10


class Case(NamedTuple):
    """Labels, documents, activations and predictions of a run."""

    labels: tuple[str, ...]
    documents: list[IndexedDocument]
    """sorted by id, which is the order of their numbers; token 0 of each document is special."""
    activations: list[list[np.ndarray]]
    """[layer][document] -> float32 [positions, d_sae], without special tokens."""
    predicted: np.ndarray
    """int32 [documents]"""

    def pooled(self, layer: int, pooling: Pooling) -> np.ndarray:
        """Pooled activations, float32 [documents, d_sae]."""
        return np.stack([_pool(values, pooling) for values in self.activations[layer]])


def random_case(
    *,
    seed: int = 0,
    layers: int = 3,
    d_sae: int = 40,
    labels: Sequence[str] = LABELS,
    documents_per_label: int | Sequence[int] = 6,
) -> Case:
    """Draw documents and activations.

    Where d_sae leaves room (labels + 4), feature c of every layer belongs to label c alone; the next feature belongs to
    labels 0 and 1, and the last but one equals it, so that their d ties; the last is never active. Layer 1 equals
    layer 0, so that ties cross layers.

    Args:
        seed: seed of all draws.
        layers: number of layers, each with an SAE.
        d_sae: features per layer.
        labels: by class index.
        documents_per_label: one number for all labels or one per label; 0: the label has no documents.
    """
    rng = np.random.default_rng(seed)
    counts = [documents_per_label] * len(labels) if isinstance(documents_per_label, int) else documents_per_label
    pairs = sorted(
        (f"{label}-{number:03d}", label_id)
        for label_id, (label, count) in enumerate(zip(labels, counts, strict=True))
        for number in range(count)
    )
    documents = [_document(rng, number, *pair) for number, pair in enumerate(pairs)]
    activations = [[_activations(rng, document, len(labels), d_sae) for document in documents] for _ in range(layers)]
    if layers > 1:
        activations[1] = activations[0]
    label_id = np.array([document.label_id for document in documents], np.int32)
    confused = rng.random(len(label_id)) < 0.25
    predicted = np.where(confused, rng.integers(0, len(labels), len(label_id)), label_id).astype(np.int32)
    return Case(tuple(labels), documents, activations, predicted)


def make_run(
    store: Path,
    name: str,
    *,
    seed: int = 0,
    layers: int = 3,
    d_sae: int = 40,
    labels: Sequence[str] = LABELS,
    documents_per_label: int | Sequence[int] = 6,
    pooling: Pooling = "head",
    executor: Executor = InProcess(),
    memory: int = GIGABYTE,
    run_format: int = FORMAT,
) -> RunManifest:
    """Draw a case, merge and publish it.

    Beside the arguments of `random_case`: the pooling of rankings, executor and memory of the merge, and the format, 3
    or FORMAT.
    """
    case = random_case(seed=seed, layers=layers, d_sae=d_sae, labels=labels, documents_per_label=documents_per_label)
    recipe = repr((seed, layers, d_sae, tuple(labels), documents_per_label, pooling))
    return publish_case(
        store, name, case, recipe, pooling=pooling, executor=executor, memory=memory, run_format=run_format
    )


def publish_case(
    store: Path,
    name: str,
    case: Case,
    recipe: str,
    *,
    pooling: Pooling = "head",
    executor: Executor = InProcess(),
    memory: int = GIGABYTE,
    top_tokens: int = TOP_TOKENS,
    run_format: int = FORMAT,
) -> RunManifest:
    """Merge and publish a case; runs of equal recipes have equal fingerprints."""
    fingerprint = hashlib.sha256(recipe.encode()).hexdigest()
    layers, d_sae = len(case.activations), case.activations[0][0].shape[1]
    work = work_directory(store, name)
    shards = plan_shards(case.documents, SHARD_DOCUMENTS, fingerprint)
    for shard in shards:
        parts = {layer: _layer_partial(shard, case.activations[layer], pooling, top_tokens) for layer in range(layers)}
        positions = sum(len(document.tokens.positions) for document in shard.documents)
        write_partial(work / "shards", shard, positions, parts, _document_partial(shard, case), {})
    keys, settings = [shard.key for shard in shards], MergeSettings(pooling, 1.0, top_tokens)
    merge = LayerMerge(work / "shards", keys, work / "layers", len(case.labels), settings, memory)
    predictions = Predictions([open_partial(work / "shards", key) for key in keys])
    facts = LayerFacts(D_MODEL, d_sae, "relu", None, LayerQuality(100, 0.9, 8.0, 0, 0.9, 0, 0.0))
    positions = sum(len(document.tokens.positions) for document in case.documents)
    shutil.rmtree(work / "staged", ignore_errors=True)  # of a merge that was interrupted, as `index` does
    with RunWriter(work / "staged") as writer:
        assembler = Assembler(writer, case.documents, case.labels, predictions, settings)
        assembly = assembler.write(merge, dict.fromkeys(range(layers), facts), executor, positions)
    if run_format == FORMAT:
        _write_contexts(work / "staged", case, top_tokens)
        _write_effects(work / "staged", case)
    manifest = _manifest(name, fingerprint, case, pooling, assembly, run_format, top_tokens)
    published = publish(store, work / "staged", manifest)
    shutil.rmtree(work)
    return published


def _write_contexts(directory: Path, case: Case, top_tokens: int) -> None:
    probes = plain_probes(case.documents)
    write_probes(directory, probes)
    for layer, activations in enumerate(case.activations):
        write_contexts(directory, layer, [plain_contexts(case.documents, activations, layer, top_tokens)])
        bits = plain_probe_bits(activations, probes)
        write_probe_bits(directory, layer, [bits], bits.shape)


def random_effects(case: Case, layer: int) -> np.ndarray:
    """Label effects of a layer of a case, float32 [labels, d_sae]."""
    d_sae = case.activations[layer][0].shape[1]
    return np.random.default_rng(1000 + layer).normal(size=(len(case.labels), d_sae)).astype(np.float32)


def _write_effects(directory: Path, case: Case) -> None:
    for layer in range(len(case.activations)):
        write_effects(directory, layer, random_effects(case, layer))


def _document(rng: np.random.Generator, number: int, id_: str, label_id: int) -> IndexedDocument:
    words = [str(word) for word in rng.choice(WORDS, rng.integers(3, 12))]
    words.insert(1, "\n")
    ends = np.cumsum([len(word) for word in words]).tolist()
    spans = [(0, 0), *zip([0, *ends[:-1]], ends, strict=True)]
    ids = [BOS, *(10 + WORDS.index(word) if word in WORDS else 9 for word in words)]
    tokens = Tokenized(ids, spans, [True] + [False] * len(words), False)
    return IndexedDocument(number, id_, label_id, "eval", "".join(words), tokens)


def _activations(rng: np.random.Generator, document: IndexedDocument, labels: int, d_sae: int) -> np.ndarray:
    shape = len(document.tokens.positions), d_sae
    active = rng.random(shape) < 0.2
    drawn = np.where(active, rng.lognormal(size=shape), 0).astype(np.float32)
    if d_sae >= labels + 4:
        clue = (rng.random(shape[0]) + 3).astype(np.float32)
        drawn[:, document.label_id] += clue
        if document.label_id < 2:
            drawn[:, labels] += clue
        drawn[:, -2] = drawn[:, labels]
        drawn[:, -1] = 0
    return drawn


def _pool(values: np.ndarray, pooling: Pooling) -> np.ndarray:
    match pooling:
        case "head":
            return values[-1]
        case "max":
            return values.max(0)
        case "mean":
            return values.mean(0, dtype=np.float64).astype(np.float32)


def _layer_partial(shard: Shard, activations: Sequence[np.ndarray], pooling: Pooling, top_tokens: int) -> LayerPartial:
    shard_activations = [activations[document.number] for document in shard.documents]
    pooled = {kind: np.stack([_pool(values, kind) for values in shard_activations]) for kind in POOLINGS}
    stacked = np.stack([pooled[kind] for kind in POOLINGS], axis=1)
    moments = label_moments(torch.from_numpy(stacked), shard.labels.values())
    ends = np.cumsum(list(shard.labels.values()))
    numbers = np.array([document.number for document in shard.documents], np.int32)
    values = np.concatenate(shard_activations)
    row, feature = np.nonzero(values)
    document = np.repeat(numbers, [len(positions) for positions in shard_activations])
    position = np.concatenate([document.tokens.positions for document in shard.documents]).astype(np.int32)
    candidates = Candidates(feature.astype(np.int32), values[row, feature], document[row], position[row])
    active_feature, index = np.nonzero(pooled[pooling].T)
    return LayerPartial(
        np.stack([part.mean.numpy() for part in moments]),
        np.stack([part.m2.numpy() for part in moments]),
        np.stack([(part > 0).sum(0, dtype=np.int32) for part in np.split(stacked, ends[:-1])]),
        (values > 0).sum(0),
        values.sum(0, dtype=np.float64),
        strongest_candidates(candidates, top_tokens),
        ordered([Activations(active_feature.astype(np.int32), numbers[index], pooled[pooling][index, active_feature])]),
        outliers=0,
    )


def _document_partial(shard: Shard, case: Case) -> DocumentPartial:
    numbers = np.array([document.number for document in shard.documents], np.int32)
    label_id = np.array([document.label_id for document in shard.documents], np.int32)
    predicted = case.predicted[numbers]
    best = np.full(len(numbers), 2.5, np.float32)
    embedding = np.tile(numbers[:, None].astype(np.float32), (1, D_MODEL))
    return DocumentPartial(
        numbers, predicted, np.where(label_id == predicted, best, 1).astype(np.float32), best, embedding
    )


def _manifest(
    name: str,
    fingerprint: str,
    case: Case,
    pooling: Pooling,
    assembly: Assembly,
    run_format: int,
    top_tokens: int,
) -> RunManifest:
    layers = list(range(len(case.activations)))
    d_sae = case.activations[0][0].shape[1]
    return RunManifest(
        format=run_format,
        run=name,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        fingerprint=fingerprint,
        classifier=ClassifierInfo(
            sha256=fingerprint,
            architecture="Gemma2ForSequenceClassification",
            d_model=D_MODEL,
            layers=len(layers),
            max_length=512,
            dtype="float32",
            head="last",
        ),
        saes=SaeInfo(
            sha256=fingerprint,
            layers=layers,
            architecture="relu",
            architectures=["relu"] * len(layers),
            sources=[f"layer_{layer:02d}" for layer in layers],
            widths=[d_sae] * len(layers),
            max_norms=[None] * len(layers),
        ),
        locations=Locations(classifier="classifier", saes="saes"),
        corpus=CorpusInfo(
            source="drawn",
            content_sha256=fingerprint,
            split="eval",
            documents=len(case.documents),
            labels=len(case.labels),
        ),
        pooling=pooling,
        variety_threshold=1.0,
        top_tokens=top_tokens,
        positions=sum(len(document.tokens.positions) for document in case.documents),
        activations=assembly.activations,
        skipped=[],
        scores=assembly.scores,
        kernels="none",
        versions={},
        timings={},
        synthetic=True,
        files=[],
    )
