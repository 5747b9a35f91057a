"""Differences between runs of one classifier whose SAEs were trained with other seeds: there is none to find.

A small demo: one classifier, an SAE set and a run per seed. With one run on each side the intervals cover documents,
labels or features, not training, so that many exclude 0; with replicates they cover training as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from msgspec.structs import replace

from benchmarks.truth.row import Row
from tegakari.analyses.engine.model_loader import model_loader
from tegakari.analyses.study import study
from tegakari.analyses.study.differences import Groups, differences
from tegakari.demo.workspace import DemoSizes, make_demo
from tegakari.indexer.corpus import import_corpus
from tegakari.indexer.pipeline import index
from tegakari.indexer.training.classifier import finetune
from tegakari.indexer.training.saes import train_saes
from tegakari.schemas.config import Config, load_config
from tegakari.schemas.study import RunStudy, StudySettings
from tegakari.store import Run, Store

SIZES = DemoSizes(
    train_per_label=20,
    eval_per_label=20,
    hidden_size=64,
    layers=1,
    head_dim=16,
    intermediate=128,
    mix_texts=160,
    mix_steps=10,
    unlabelled_posts=160,
    unlabelled_steps=10,
)
D_SAE = 192
SAME_FOR_ALL = "macro-F1"
"""The classifier's figure, which SAEs do not change."""

AT_MOST = 0.1
"""Of differences between groups of replicates: 5 % by the interval's definition; the splits are not independent."""

TRAININGS = 6
"""SAE seeds; half of them are the replicates of each side."""


def simulate(seeds: int = TRAININGS) -> list[Row]:
    """Share of the differences whose interval excludes 0.

    Args:
        seeds: SAE seeds, of which no more than `TRAININGS` are trained; at least 4.
    """
    seeds = min(seeds, TRAININGS)
    with TemporaryDirectory() as directory:
        runs = _runs(Path(directory), seeds)
        settings = StudySettings(k=5, draws=0, skip=["circuit", "matching", "variants"])
        store = Store(Path(directory) / "store").directory
        studies = [study(store, [run], lambda run: model_loader(run, "cpu"), settings).runs[0] for run in runs]
        pairs = [((a,), (b,)) for a, b in combinations(range(seeds), 2)]
        halves = [
            (half, tuple(sorted(set(range(seeds)) - set(half))))
            for half in combinations(range(seeds), seeds // 2)
            if 0 in half
        ]
        return [
            _row("one run on each side", runs, studies, pairs, None),
            _row(f"{seeds // 2} replicates on each side", runs, studies, halves, AT_MOST),
        ]


def _runs(root: Path, seeds: int) -> list[Run]:
    """A run per SAE seed, of one classifier."""
    config_file, _ = make_demo(root, sizes=SIZES)
    config = load_config(config_file)
    config = replace(config, classifier=replace(config.classifier, learning_rate=4e-3))
    import_corpus(config.corpus)
    finetune(config, device="cpu")
    for seed in range(seeds):
        of_seed = _with_seed(config, root, seed)
        train_saes(of_seed, device="cpu")
        index(of_seed)
    store = Store(root / "store")
    return [store.run(f"seed-{seed}") for seed in range(seeds)]


def _with_seed(config: Config, root: Path, seed: int) -> Config:
    saes = replace(config.saes, path=str(root / f"saes-{seed}"), d_sae=D_SAE, epochs=8, batch_size=256, seed=seed)
    return replace(config, saes=saes, index=replace(config.index, run=f"seed-{seed}", device="cpu"))


def _row(
    case: str,
    runs: Sequence[Run],
    studies: Sequence[RunStudy],
    sides: Sequence[tuple[tuple[int, ...], tuple[int, ...]]],
    at_most: float | None,
) -> Row:
    excludes = []
    for a, b in sides:
        numbers = [*a, *b]
        rows = differences([runs[n] for n in numbers], [studies[n] for n in numbers], Groups(len(a), len(b)), 0)
        excludes += [row.difference.low > 0 or row.difference.high < 0 for row in rows if row.figure != SAME_FOR_ALL]
    return Row("difference without a cause excludes 0", case, float(np.mean(excludes)), None, at_most, len(excludes))
