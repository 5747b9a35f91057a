"""95 % intervals of ratios over pairs of documents, by a bootstrap of the documents.

Pairs that share a document are not independent, so intervals from resampled pairs are too narrow.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from tegakari.analyses.statistics import PERCENTILES, SAMPLES
from tegakari.schemas.analysis import Interval
from tegakari.store.queries.pairs import Pairs

_WEIGHTS_PER_BLOCK = 4_000_000
"""Weights computed at a time, so that memory does not grow with the number of pairs."""


def ratio_intervals(numerators: np.ndarray, denominators: np.ndarray, pairs: Pairs, seed: int) -> list[Interval]:
    """Ratios of sums over pairs, with intervals.

    A sample draws as many documents as the pairs have, with replacement; a pair occurs in it as often as the product of
    the draws of its two documents says (the pigeonhole bootstrap; Owen 2007, Annals of Applied Statistics 1, 386-411).
    This counts the noise of a pair itself up to three times, which is too wide where few pairs share a document, so the
    distances of the percentiles from the ratio are scaled to `standard_errors`.

    Args:
        numerators: float64 [P, F], of F ratios.
        denominators: float64 [P, F].
        pairs: P pairs of documents.
        seed: of the draws.

    Returns:
        F intervals. Without meaning where one document is in all pairs that have a denominator.
    """
    ratio = numerators.sum(0) / denominators.sum(0)
    low, high = np.nanpercentile(resampled_ratios(numerators, denominators, pairs, seed), PERCENTILES, axis=0)
    robust, product = standard_errors(numerators, denominators, pairs)
    scale = robust / np.where(product > 0, product, 1.0)
    return [
        Interval(value=float(value), low=float(below), high=float(above))
        for value, below, above in zip(
            ratio, ratio - (ratio - low) * scale, ratio + (high - ratio) * scale, strict=True
        )
    ]


def resampled_ratios(numerators: np.ndarray, denominators: np.ndarray, pairs: Pairs, seed: int) -> np.ndarray:
    """Ratios in samples of the documents, float64 [SAMPLES, F]; NaN in a sample without pairs with a denominator.

    Arguments as of `ratio_intervals`.
    """
    sums = [(weights @ numerators, weights @ denominators) for weights in _weights(_documents(pairs), seed)]
    return np.concatenate([above / np.where(below == 0, np.nan, below) for above, below in sums])


def standard_errors(numerators: np.ndarray, denominators: np.ndarray, pairs: Pairs) -> tuple[np.ndarray, np.ndarray]:
    """Standard errors of ratios; arguments as of `ratio_intervals`.

    Returns:
        float64 [F], robust to shared documents: the delete-one-document jackknife, less the noise of the pairs
            themselves, which it counts once for each of their two documents (the dyadic cluster-robust variance;
            Aronow, Samii & Assenova 2015, Political Analysis 23, 564-577; deletion as in MacKinnon & White 1985).
        float64 [F], which samples with product weights have to first order.
    """
    documents = _documents(pairs)
    count = int(documents.max()) + 1
    total = denominators.sum(0)
    residuals = (numerators - numerators.sum(0) / total * denominators) / total
    of_document = _sums(residuals, documents[0], count) + _sums(residuals, documents[1], count)
    share = (_sums(denominators, documents[0], count) + _sums(denominators, documents[1], count)) / total
    # (a, b) and (b, a) have both documents in common.
    unordered = np.unique(np.sort(documents, axis=0), axis=1, return_inverse=True)[1].ravel()
    own = (_sums(residuals, unordered, int(unordered.max()) + 1) ** 2).sum(0)
    with np.errstate(divide="ignore", invalid="ignore"):
        deleted = np.where(share == 1, np.inf, of_document / (1 - share))
    robust = np.maximum((deleted**2).sum(0) - own, own)
    return np.sqrt(robust), np.sqrt((of_document**2).sum(0) + own)


def _documents(pairs: Pairs) -> np.ndarray:
    """Clean and corrupted document of each pair, int64 [2, P], numbered from 0 without gaps."""
    both = np.stack((pairs.clean, pairs.corrupted))
    return np.unique(both, return_inverse=True)[1].reshape(both.shape)


def _weights(documents: np.ndarray, seed: int) -> Iterator[np.ndarray]:
    """Weights of the pairs in each sample, float64 [samples, P], SAMPLES samples in blocks."""
    generator = np.random.default_rng(seed)
    count, block = int(documents.max()) + 1, max(1, min(SAMPLES, _WEIGHTS_PER_BLOCK // documents.shape[1]))
    for start in range(0, SAMPLES, block):
        draws = generator.multinomial(count, np.full(count, 1 / count), size=min(block, SAMPLES - start)).astype(float)
        yield draws[:, documents[0]] * draws[:, documents[1]]


def _sums(values: np.ndarray, group: np.ndarray, groups: int) -> np.ndarray:
    """Sums of the rows of values [n, F] in each group [n]: [groups, F]."""
    sums = np.zeros((groups, values.shape[1]))
    np.add.at(sums, group, values)
    return sums
