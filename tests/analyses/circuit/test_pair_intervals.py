"""Intervals over pairs that share documents, against resampled documents and against the truth."""

from __future__ import annotations

import numpy as np
import pytest

from tegakari.analyses.circuit.pair_intervals import ratio_intervals, resampled_ratios, standard_errors
from tegakari.store.queries.pairs import Pairs


def pairs_of(clean: list[int], corrupted: list[int]) -> Pairs:
    return Pairs(np.array(clean), np.array(corrupted), np.ones(len(clean), np.float32), len(clean), 0)


def random_pairs(generator: np.random.Generator, documents: int, n: int) -> Pairs:
    """Ordered pairs of different documents, without repeats, with gaps in the numbers."""
    ordered = [(3 * a, 3 * b) for a in range(documents) for b in range(documents) if a != b]
    chosen = generator.permutation(len(ordered))[:n]
    return pairs_of([ordered[number][0] for number in chosen], [ordered[number][1] for number in chosen])


def test_samples_are_those_of_duplicated_documents():
    """The corpus of each sample is written out: a document drawn twice is in every pair twice."""
    generator = np.random.default_rng(0)
    pairs = random_pairs(generator, 9, 25)
    numerators, denominators = generator.normal(size=(25, 3)), generator.uniform(1, 2, (25, 1))
    documents = sorted({*pairs.clean.tolist(), *pairs.corrupted.tolist()})
    draws = np.random.default_rng(5).multinomial(len(documents), np.full(len(documents), 1 / len(documents)), size=2000)
    samples = resampled_ratios(numerators, denominators, pairs, seed=5)
    assert samples.shape == (2000, 3)
    for row in range(0, 2000, 97):
        corpus = [document for document, times in zip(documents, draws[row], strict=True) for _ in range(times)]
        numerator, denominator = np.zeros(3), 0.0
        for first in corpus:
            for second in corpus:
                for pair in range(25):
                    if (pairs.clean[pair], pairs.corrupted[pair]) == (first, second):
                        numerator += numerators[pair]
                        denominator += denominators[pair, 0]
        if denominator:
            assert samples[row] == pytest.approx(numerator / denominator)
        else:
            assert np.isnan(samples[row]).all()


def test_blocks_of_samples_are_one_series(monkeypatch: pytest.MonkeyPatch):
    generator = np.random.default_rng(1)
    pairs = random_pairs(generator, 12, 40)
    values = generator.normal(size=(40, 2))
    whole = resampled_ratios(values, np.ones((40, 1)), pairs, 3)
    monkeypatch.setattr("tegakari.analyses.circuit.pair_intervals._WEIGHTS_PER_BLOCK", 40 * 300)
    assert np.array_equal(resampled_ratios(values, np.ones((40, 1)), pairs, 3), whole, equal_nan=True)


def test_standard_errors_agree_with_deleted_documents_in_a_loop():
    generator = np.random.default_rng(2)
    pairs = random_pairs(generator, 10, 30)
    change, gain = generator.normal(1, 1, 30), generator.uniform(1, 3, 30)
    ratio = change.sum() / gain.sum()
    residual = (change - ratio * gain) / gain.sum()
    variance = 0.0
    for document in {*pairs.clean.tolist(), *pairs.corrupted.tolist()}:
        others = (pairs.clean != document) & (pairs.corrupted != document)
        variance += (change[others].sum() / gain[others].sum() - ratio) ** 2
    own: dict[frozenset[int], float] = {}
    for first, second, value in zip(pairs.clean.tolist(), pairs.corrupted.tolist(), residual, strict=True):
        own[frozenset((first, second))] = own.get(frozenset((first, second)), 0.0) + value
    noise = sum(value**2 for value in own.values())
    robust, product = standard_errors(change[:, None], gain[:, None], pairs)
    assert robust[0] ** 2 == pytest.approx(max(variance - noise, noise))
    samples = resampled_ratios(change[:, None], gain[:, None], pairs, 0)
    assert np.nanstd(samples) == pytest.approx(product[0], rel=0.25)  # to first order


def test_pairs_without_common_documents_have_the_interval_of_a_mean():
    """Each document is in one pair: the documents add nothing, and the interval is that of 400 independent values."""
    values = np.random.default_rng(4).normal(size=400)
    pairs = pairs_of(list(range(0, 800, 2)), list(range(1, 800, 2)))
    (interval,) = ratio_intervals(values[:, None], np.ones((400, 1)), pairs, seed=0)
    assert interval.value == pytest.approx(values.mean())
    assert (interval.high - interval.low) / 2 == pytest.approx(1.96 * values.std() / 20, rel=0.08)
