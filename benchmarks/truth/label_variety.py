"""Coverage of the interval of the mean label variety: the value that other documents, as many per label, would give."""

from __future__ import annotations

import numpy as np

from benchmarks.truth.row import Row
from tegakari.analyses.specificity.assignments import half_samples
from tegakari.analyses.specificity.best_labels import LayerActivations, best_labels
from tegakari.analyses.specificity.variety import HALF_SAMPLES, variety_interval
from tegakari.schemas.analysis import Interval

LABELS = 16
FEATURES = 400
SIZES = (10, 40, 120)
"""Documents per label."""
MOST_SEEDS = 300


def simulate(seeds: int) -> list[Row]:
    """Share of samples of documents whose interval has the mean over all samples in it."""
    seeds = min(seeds, MOST_SEEDS)
    rows = []
    for size in SIZES:
        intervals = [_interval(size, seed) for seed in range(seeds)]
        expected = np.mean([interval.value for interval in intervals])
        covered = float(np.mean([interval.low <= expected <= interval.high for interval in intervals]))
        rows.append(Row("interval of the mean label variety", f"{size} documents per label", covered, 0.88, 1.0, seeds))
    return rows


def _interval(size: int, seed: int) -> Interval:
    label = np.repeat(np.arange(LABELS), size)
    values = _features(np.random.default_rng(seed), label)
    feature, document = np.nonzero(values.T)
    first = np.searchsorted(feature, np.arange(FEATURES + 1))
    activations = LayerActivations(len(label), first, document.astype(np.int32), values[document, feature])
    assignments = np.concatenate([label[None], half_samples(label, HALF_SAMPLES, seed)])
    variety = best_labels(activations, assignments, LABELS, 1.0, np.arange(FEATURES)).variety.mean(1)
    return variety_interval(float(variety[0]), variety[1:])


def _features(generator: np.random.Generator, label: np.ndarray) -> np.ndarray:
    """One population of features, two in five with a label of their own; documents differ in how much is active."""
    fixed = np.random.default_rng(0)
    density = np.minimum(fixed.lognormal(-4, 1.5, FEATURES), 0.9)
    own = fixed.integers(0, LABELS, FEATURES)
    rate = np.where(fixed.random(FEATURES) < 0.4, fixed.uniform(0, 0.9, FEATURES), density)
    gain = fixed.uniform(1, 3, FEATURES)
    is_own = label[:, None] == own
    strength = np.minimum(generator.lognormal(-0.06, 0.35, (len(label), 1)), 3)
    active = generator.random(is_own.shape) < np.where(is_own, np.maximum(rate, density), density) * strength
    values = generator.lognormal(0, 0.7, is_own.shape) * np.where(is_own, gain, 1)
    return np.where(active, values, 0).astype(np.float32)
