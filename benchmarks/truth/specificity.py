"""Features beyond chance: claims where labels mean nothing, and features with a planted label that are found."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from benchmarks.truth.row import Row
from tegakari.analyses.specificity.assignments import permutations
from tegakari.analyses.specificity.best_labels import LayerActivations, best_labels
from tegakari.analyses.specificity.false_discovery import q_values, tail, varying_documents
from tegakari.schemas.specificity import SpecificitySettings

FEATURES = 900
PLANTED = 80
TOPICS = 40
MOST_SEEDS = 200
"""They take a minute; each counts 900 features under 201 labellings."""
SETTINGS = SpecificitySettings()
THRESHOLD = 1.0


class Size(NamedTuple):
    """Labels and documents of a simulated run."""

    labels: int
    documents: int
    """per label"""

    def __str__(self) -> str:
        return f"{self.labels} labels x {self.documents} documents"


class Claims(NamedTuple):
    """Numbers of features of one simulated layer."""

    above: int
    """with d above the threshold"""
    significant: int
    false: int
    """significant without a planted label"""


def simulate(seeds: int) -> list[Row]:
    """Shares of simulated layers with a false claim, of false claims, and of planted features that are found."""
    seeds = min(seeds, MOST_SEEDS)
    rows = []
    for size in (Size(77, 30), Size(16, 40)):
        claims = [_claims(size, 0, seed) for seed in range(seeds)]
        case = f"{size}, labels without meaning"
        above = float(np.mean([claim.above for claim in claims]) / FEATURES)
        any_claim = float(np.mean([claim.significant > 0 for claim in claims]))
        rows += [
            Row("share of features with d > 1", case, above, None, None, seeds),
            Row("any feature is significant", case, any_claim, None, 0.05, seeds),
        ]
        claims = [_claims(size, PLANTED, seed) for seed in range(max(3, seeds // 5))]
        case = f"{size}, {PLANTED} of {FEATURES} features with a label"
        false = float(np.mean([claim.false / max(1, claim.significant) for claim in claims]))
        power = float(np.mean([(claim.significant - claim.false) / PLANTED for claim in claims]))
        rows += [
            Row("false share of significant features", case, false, None, SETTINGS.fdr, len(claims)),
            Row("planted features are significant", case, power, 0.9, None, len(claims)),
        ]
    return rows


def _claims(size: Size, planted: int, seed: int) -> Claims:
    generator = np.random.default_rng(seed)
    label = np.repeat(np.arange(size.labels), size.documents)
    values = _topic_features(generator, len(label))
    values[:, :planted] = _label_features(generator, label, size.labels, planted)
    activations = _sparse(values)
    features = np.flatnonzero(np.diff(activations.first) >= SETTINGS.min_active)
    assignments = np.concatenate([label[None], permutations(label, SETTINGS.permutations, seed)])
    d = best_labels(activations, assignments, size.labels, THRESHOLD, features).d
    layer = tail(features, varying_documents(activations)[features], d[0], d[1:], THRESHOLD)
    (q,) = q_values([layer], SETTINGS.permutations)
    significant = layer.feature[q <= SETTINGS.fdr]
    return Claims(len(layer.feature), len(significant), int((significant >= planted).sum()))


def _topic_features(generator: np.random.Generator, documents: int) -> np.ndarray:
    """Features of topics that have nothing to do with labels, so that features are correlated; most are rare."""
    density = np.minimum(generator.lognormal(-4, 1.5, FEATURES), 0.95)
    topic, of_feature = generator.integers(0, TOPICS, documents), generator.integers(0, TOPICS, FEATURES)
    inside = np.minimum(density * TOPICS * 0.7, 0.95)
    active = generator.random((documents, FEATURES)) < np.where(topic[:, None] == of_feature, inside, density * 0.3)
    return np.where(active, generator.lognormal(0, 0.7, active.shape), 0).astype(np.float32)


def _label_features(generator: np.random.Generator, label: np.ndarray, labels: int, features: int) -> np.ndarray:
    """Features that are active in 30 to 90 % of one label's documents, and in 1 % of the others."""
    of_feature, rate = generator.integers(0, labels, features), generator.uniform(0.3, 0.9, features)
    active = generator.random((len(label), features)) < np.where(label[:, None] == of_feature, rate, 0.01)
    return np.where(active, generator.lognormal(0.5, 0.7, active.shape), 0).astype(np.float32)


def _sparse(values: np.ndarray) -> LayerActivations:
    feature, document = np.nonzero(values.T)
    first = np.searchsorted(feature, np.arange(values.shape[1] + 1))
    return LayerActivations(len(values), first, document.astype(np.int32), values[document, feature])
