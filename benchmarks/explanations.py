"""Deterministic explanations of a run of the study's shape, and their scores on the demo.

    python -m benchmarks.explanations [--layers 4] [--threads 1 2] [--demo STORE] [--run demo-jpn]

Time: 12,650 invented posts of 100 tokens, 9,216 features per layer, each with 100 strongest positions and a sample
of 20; half of the features are strongest on or behind one word, the others anywhere. `explain_run` reads their contexts
from files, as after an index, and writes the explanations; the time of 26 layers is that of the corpus once, plus 26 of
the mean layer, in processor time of one thread; wall times are of all measured layers with the corpus, by the number of
threads. Scores: detection of the features of the demo that are specific to one label, by their terms. The last line is
one JSON object.
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa

from tegakari.analyses.explanations.scoring import score_explanation
from tegakari.analyses.explanations.terms_judge import TermsJudge
from tegakari.demo.communities import COMMUNITIES
from tegakari.demo.corpus import generate
from tegakari.store import Store
from tegakari.store.blocks.files import Places
from tegakari.store.context_writer import write_contexts
from tegakari.store.contexts import WINDOW, WINDOW_TOKENS, FeatureContexts, LayerContexts
from tegakari.store.explanations.terms import terms_explanation
from tegakari.terms.explain import explain_run
from tegakari.terms.windows import open_corpus
from tegakari.terms.words import cut

DOCUMENTS, FEATURES, LAYERS, LABELS = 12_650, 9_216, 26, 107
POSTS_PER_DOCUMENT = 3
STRONGEST, SAMPLED = 100, 20


class StudySizedRun:
    """As much of a run as explanations read; its documents and contexts are invented."""

    name = "study-sized"

    def __init__(self, directory: Path, layers: int) -> None:
        self.directory = directory
        self.store = directory.parent
        widths = [FEATURES] * layers
        self.manifest = SimpleNamespace(
            saes=SimpleNamespace(layers=list(range(layers)), widths=widths),
            corpus=SimpleNamespace(documents=DOCUMENTS, labels=LABELS),
            classifier=SimpleNamespace(head="last"),
            run=self.name,
            fingerprint="0" * 64,
            pooling="max",
            variety_threshold=1.0,
        )
        self.labels = tuple(f"label {number}" for number in range(LABELS))
        draws = np.random.default_rng(0)
        places = layers * FEATURES
        d = draws.normal(0, 0.4, (LABELS, places)).astype(np.float32)
        self.blocks = SimpleNamespace(
            documents=documents(np.random.default_rng(2)),
            places=Places(list(range(layers)), widths),
            statistics={("d", "max"): d},
            documents_active={"max": draws.integers(0, 118, (LABELS, places), np.uint8)},
            features={"density": draws.random(places) * 0.1},
        )

    @contextmanager
    def opening_files(self) -> Iterator[None]:
        yield


def documents(draws: np.random.Generator) -> Any:
    """Posts of the demo, joined by threes, with tokens of one or two characters."""
    per_label = -(-DOCUMENTS * POSTS_PER_DOCUMENT // len(COMMUNITIES))
    posts = [f"{post.title}\n{post.body}" for post in generate(0, per_label)]
    texts = ["\n".join(posts[number::DOCUMENTS][:POSTS_PER_DOCUMENT]) for number in range(DOCUMENTS)]
    starts, ends, counts = [], [], []
    for text in texts:
        bounds = np.flatnonzero(draws.random(len(text)) < 0.6)
        start = np.unique(np.append(bounds, 0))
        starts.append(start)
        ends.append(np.append(start[1:], len(text)))
        counts.append(len(start))
    first = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
    return SimpleNamespace(
        text=pa.array(texts, pa.large_string()),
        label_id=draws.integers(0, LABELS, DOCUMENTS).astype(np.int32),
        first_token=first,
        token_ids=draws.integers(0, 50_000, first[-1]).astype(np.int32),
        token_starts=np.concatenate(starts).astype(np.int32),
        token_ends=np.concatenate(ends).astype(np.int32),
    )


def occurrences(run: StudySizedRun) -> dict[str, np.ndarray]:
    """Word -> rows of tokens where it begins, of words that stand in 100 documents or more."""
    found: dict[str, list[int]] = {}
    tokens = run.blocks.documents
    for number, text in enumerate(tokens.text.to_pylist()):
        first, stop = tokens.first_token[number], tokens.first_token[number + 1]
        spans = cut(text)
        at = np.searchsorted(tokens.token_starts[first:stop], [start for start, _ in spans], side="right") - 1
        for (start, end), token in zip(spans, (first + at).tolist(), strict=True):
            found.setdefault(text[start:end], []).append(token)
    return {word: np.array(rows) for word, rows in found.items() if len(rows) >= STRONGEST}


def contexts(run: StudySizedRun, words: list[np.ndarray], layer: int) -> Iterator[LayerContexts]:
    """Contexts of a layer, a range of features at a time."""
    draws = np.random.default_rng([1, layer])
    first = run.blocks.documents.first_token
    per_feature = STRONGEST + SAMPLED
    quantile = np.concatenate([np.zeros(STRONGEST), np.repeat(np.arange(1, 11), 2)]).astype(np.int32)
    rank = np.concatenate([np.arange(STRONGEST) + 1, np.tile([1, 2], 10)]).astype(np.int32)
    for start in range(0, FEATURES, 512):
        features = np.arange(start, min(start + 512, FEATURES))
        rows = draws.integers(0, first[-1], (len(features), per_feature))
        for index in np.flatnonzero(draws.random(len(features)) < 0.5):
            word = words[draws.integers(len(words))]
            clue = draws.random(per_feature) < 0.8
            rows[index, clue] = draws.choice(word, clue.sum()) + draws.integers(0, 4)
        rows = np.minimum(rows, first[-1] - 1).ravel()
        document = (np.searchsorted(first, rows, side="right") - 1).astype(np.int32)
        position = (rows - first[document]).astype(np.int32)
        begin = np.maximum(position - WINDOW, 0)
        length = np.minimum(position + WINDOW + 1, np.diff(first)[document]) - begin
        inside = np.arange(WINDOW_TOKENS) < length[:, None]
        activations = np.where(inside, draws.random(inside.shape, np.float32), 0).astype(np.float32)
        yield LayerContexts(
            np.repeat(features, per_feature).astype(np.int32),
            FeatureContexts(
                np.tile(quantile, len(features)),
                np.tile(rank, len(features)),
                document,
                position,
                draws.random(len(rows), np.float32) + np.float32(0.1),
                begin.astype(np.int32),
                length.astype(np.int32),
                activations,
            ),
        )


def measure_time(layers: int, threads: Sequence[int]) -> dict[str, float]:
    """Processor seconds of the corpus, a layer and 26 layers; wall time by threads; bytes per feature; peak memory."""
    with tempfile.TemporaryDirectory() as directory:
        run: Any = StudySizedRun(Path(directory) / "runs" / "study-sized", layers)
        words = list(occurrences(run).values())
        for layer in range(layers):
            write_contexts(run.directory, layer, contexts(run, words, layer))
        warm: Any = StudySizedRun(run.directory, 1)
        explain_run(warm, Path(directory) / "warm")  # compiles
        start = time.process_time()
        open_corpus(run.blocks.documents, run.manifest)
        corpus = time.process_time() - start
        start = time.process_time()
        explain_run(run, run.directory, threads=1)
        layer_seconds = (time.process_time() - start - corpus) / layers
        size = sum(file.stat().st_size for file in (run.directory / "explanations").rglob("*.parquet"))
        walls = {}
        for count in threads:
            start = time.perf_counter()
            explain_run(run, run.directory, threads=count)
            walls[f"wall_seconds_{count}_threads"] = time.perf_counter() - start
    return {
        "tokens": int(run.blocks.documents.first_token[-1]),
        "corpus_seconds": corpus,
        "layer_seconds": layer_seconds,
        "microseconds_per_feature": layer_seconds / FEATURES * 1e6,
        "seconds_of_26_layers": corpus + LAYERS * layer_seconds,
        **walls,
        "bytes_per_feature": size / (layers * FEATURES),
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def measure_scores(store: Path, name: str) -> dict[str, float]:
    """Mean detection of the features of a run that are specific to one label."""
    run = Store(store).run(name)
    columns, pooling = run.blocks.features, run.manifest.pooling
    places = np.flatnonzero(columns[f"variety_{pooling}"] == 1)
    judge = TermsJudge()
    all_strengths, strongest, fuzzing, unscored = [], [], [], 0
    start = time.process_time()
    for layer, feature in zip(columns["layer"][places].tolist(), columns["feature"][places].tolist(), strict=True):
        scores = score_explanation(run, terms_explanation(run, layer, feature), judge)
        detection = [score for score in scores if score.protocol == "detection"]
        unscored += not detection
        all_strengths += [score.balanced_accuracy.value for score in detection]
        strongest += [score.strongest.value for score in detection if score.strongest is not None]
        fuzzing += [score.balanced_accuracy.value for score in scores if score.protocol == "fuzzing"]
    return {
        "label_specific_features": len(places),
        "features_without_score": unscored,
        "detection": float(np.mean(all_strengths)),
        "detection_of_strongest": float(np.mean(strongest)),
        "fuzzing": float(np.mean(fuzzing)),
        "seconds_per_feature": (time.process_time() - start) / max(len(places), 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0] if __doc__ else None)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--threads", type=int, nargs="*", default=[1, 2])
    parser.add_argument("--demo", type=Path, help="store of the demo, with explanations")
    parser.add_argument("--run", default="demo-jpn")
    arguments = parser.parse_args()
    figures = measure_time(arguments.layers, arguments.threads)
    if arguments.demo:
        figures |= measure_scores(arguments.demo, arguments.run)
    for name, value in figures.items():
        print(f"{name}: {value:,.3f}")
    print(json.dumps({name: round(value, 4) for name, value in figures.items()}))


if __name__ == "__main__":
    main()
