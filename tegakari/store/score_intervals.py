"""95 % intervals of a share and of F1, by their scores: they cover near 0 and 1, and never have width 0."""

from __future__ import annotations

import math
from statistics import NormalDist

Z = NormalDist().inv_cdf(0.975)
"""Quantile of the normal distribution, of the ends of a 95 % interval."""


def wilson(share: float, n: float) -> tuple[float, float]:
    """Ends of Wilson's score interval of a share of n items (Wilson 1927); (nan, nan) for n = 0."""
    if not n:
        return float("nan"), float("nan")
    centre, spread = share + Z**2 / (2 * n), Z * math.sqrt(share * (1 - share) / n + Z**2 / (4 * n * n))
    low, high = ((centre + side * spread) / (1 + Z**2 / n) for side in (-1, 1))
    return max(0.0, min(low, share)), min(1.0, max(high, share))  # at 0 and 1 the rounded ends miss the share


def f1_ends(hits: int, documents: int, predictions: int) -> tuple[float, float]:
    """Ends of the interval of the F1 of a label, by Wilson's indirect method (Lam, Gopal and Qian 2023).

    Of the documents that have the label or are predicted as it, the hits are a share S; F1 is 2 S / (1 + S), and so are
    the ends, of Wilson's for S.

    Args:
        hits: documents of the label that are predicted as it.
        documents: of the label.
        predictions: documents that are predicted as the label.

    Returns:
        (nan, nan) if the label has no documents and is never predicted.
    """
    union = documents + predictions - hits
    low, high = wilson(hits / union if union else float("nan"), union)
    return 2 * low / (1 + low), 2 * high / (1 + high)
