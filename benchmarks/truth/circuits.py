"""Circuits: coverage of the intervals, and whether float32 and bfloat16 give the same circuit."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch

from benchmarks.small_classifiers import DOCUMENTS_PER_LABEL, invented_documents, trained_classifier
from benchmarks.truth.row import Row
from tegakari.analyses.circuit.effects import Effects
from tegakari.analyses.circuit.forward import Accuracies, pair_effects
from tegakari.analyses.circuit.outcome import ablated, component_effects
from tegakari.models.architecture import find_blocks
from tegakari.models.classifier import Classifier
from tegakari.models.precision import float32_copy
from tegakari.schemas.circuit import CircuitSettings
from tegakari.store.queries.pairs import Pairs, draw_pairs

EFFECT = 0.1
"""True effect of each simulated component."""

CLASSIFIERS = 20


class Case(NamedTuple):
    """Size of a sample, and where the effects vary."""

    documents: int
    """predicted correctly"""
    pairs: int
    clean: float
    """standard deviation of the effect between clean documents"""
    corrupted: float
    """between corrupted documents"""
    pair: float
    """between pairs of the same documents"""


CASES = {
    "few documents": Case(60, 1000, 0.3, 0.2, 0.2),
    "each document in many pairs": Case(200, 1000, 0.2, 0.2, 0.2),
    "many documents": Case(640, 264, 0.2, 0.2, 0.2),
    "noise of pairs alone": Case(640, 1000, 0.0, 0.0, 0.5),
}


def simulate(seeds: int) -> list[Row]:
    """All rows: `seeds` samples of ablations, a tenth as many of pairs, and at most CLASSIFIERS classifiers."""
    return [
        *synthetic_coverage(max(seeds // 10, 1), tuple(CASES)),
        *ablation_coverage(seeds),
        *same_circuits(min(max(seeds // 10, 1), CLASSIFIERS)),
    ]


def synthetic_coverage(seeds: int, cases: Sequence[str]) -> list[Row]:
    """Coverage of the intervals of both estimators, of two components each.

    Args:
        seeds: number of samples.
        cases: of CASES.
    """
    rows = []
    for name in cases:
        covered = {"ratio of means": 0, "mean of ratios": 0}
        for seed in range(seeds):
            effects, pairs = _sample(CASES[name], np.random.default_rng((seed, CASES[name].documents)))
            for component in component_effects(effects, pairs, CircuitSettings(seed=seed)):
                covered["ratio of means"] += component.effect.low <= EFFECT <= component.effect.high
                covered["mean of ratios"] += component.study_effect.low <= EFFECT <= component.study_effect.high
        rows += [
            Row(f"interval of a circuit's {estimator}", name, count / (2 * seeds), 0.9, 0.98, 2 * seeds)
            for estimator, count in covered.items()
        ]
    return rows


def _sample(case: Case, generator: np.random.Generator) -> tuple[Effects, Pairs]:
    """Pairs of documents of twelve topics, and effects that vary between clean documents, corrupted ones and pairs."""
    topic = np.random.default_rng(7).normal(size=(12, 16))
    near = generator.gamma(2, 1, (case.documents, 1)) / 4  # some documents are near many others
    vectors = topic[generator.integers(0, 12, case.documents)] + near * generator.normal(size=(case.documents, 16))
    label = np.arange(case.documents) % 8
    seed = int(generator.integers(2**31))
    pairs = draw_pairs(vectors.astype(np.float32), label, min_cosine=0.8, n=case.pairs, seed=seed)
    clean, corrupted, pair = (
        generator.normal(size=(size, 1, 2))[rows]
        for size, rows in (
            (case.documents, pairs.clean),
            (case.documents, pairs.corrupted),
            (len(pairs.clean), np.arange(len(pairs.clean))),
        )
    )
    ratio = EFFECT + case.clean * clean + case.corrupted * corrupted + case.pair * pair
    strength = generator.normal(size=case.documents)
    gain = 3 * np.exp(0.2 * (strength[pairs.clean] - strength[pairs.corrupted]))
    return Effects(ratio * gain[:, None, None], gain, spread=1.0), pairs


def ablation_coverage(seeds: int) -> list[Row]:
    """Coverage of the intervals of sufficiency and necessity, near the ends of their range and in its middle."""
    rows = []
    # Shares of documents that are right with and without the ablation, right with it alone, without it alone.
    for name, both, after_alone, before_alone in (
        ("nothing lost", 0.88, 0.005, 0.005),
        ("half lost", 0.45, 0.02, 0.45),
        ("nearly all lost", 0.02, 0.0, 0.88),
    ):
        for documents in (40, 400):
            generator = np.random.default_rng((documents, int(1000 * both)))
            shares = [both, after_alone, before_alone, 1 - both - after_alone - before_alone]
            full, after = both + before_alone, both + after_alone
            sufficiency = necessity = 0
            for _ in range(seeds):
                group = generator.choice(4, documents, p=shares)
                right, right_after = (group == 0) | (group == 2), group <= 1
                result = ablated("mean", Accuracies(right, right_after, right_after, right_after, right_after))
                assert result.sufficiency is not None
                sufficiency += result.sufficiency.low <= after / full <= result.sufficiency.high
                necessity += result.necessity.low <= full - after <= result.necessity.high
            case = f"{name}, {documents} documents"
            rows += [
                Row("interval of sufficiency", case, sufficiency / seeds, 0.9, None, seeds),
                Row("interval of necessity", case, necessity / seeds, 0.9, None, seeds),
            ]
    return rows


def same_circuits(classifiers: int) -> list[Row]:
    """Share of small trained classifiers with the same circuit in float32 and in bfloat16, on the same pairs."""
    same = {"robust, effects in float32": 0, "study, effects in float32": 0, "study, effects in bfloat16": 0}
    for seed in range(classifiers):
        classifier = trained_classifier(seed)
        documents = invented_documents(np.random.default_rng((seed, 2)), DOCUMENTS_PER_LABEL)
        pairs = _pairs_of(classifier, documents.text.to_pylist(), documents.label_id)
        model = copy.deepcopy(classifier.model).bfloat16()
        rounded = replace(classifier, model=model, blocks=find_blocks(model), dtype=torch.bfloat16)
        settings = CircuitSettings()
        circuits = [
            component_effects(pair_effects(precision, documents, pairs), pairs, settings)
            for precision in (classifier, float32_copy(rounded), rounded)
        ]
        robust = [[component.in_robust_circuit for component in components] for components in circuits]
        study = [[component.in_study_circuit for component in components] for components in circuits]
        same["robust, effects in float32"] += robust[0] == robust[1]
        same["study, effects in float32"] += study[0] == study[1]
        same["study, effects in bfloat16"] += study[0] == study[2]
    return [
        Row(
            "same circuit of float32 and bfloat16",
            case,
            count / classifiers,
            0.9 if "robust" in case else None,
            None,
            classifiers,
        )
        for case, count in same.items()
    ]


def _pairs_of(classifier: Classifier, texts: list[str], label: np.ndarray) -> Pairs:
    """Pairs of correctly predicted documents, as the circuit analysis draws them."""
    output = classifier.run(classifier.batch(classifier.tokenize(texts)))
    correct = np.flatnonzero(output.logits.argmax(1).numpy() == label)
    pairs = draw_pairs(output.embeddings.numpy()[correct], label[correct], min_cosine=0.8, n=200, seed=0)
    return pairs._replace(clean=correct[pairs.clean], corrupted=correct[pairs.corrupted])
