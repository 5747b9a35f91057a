"""Onset: where the activation of a feature rises in a text, and the tokens that this makes strong."""

from __future__ import annotations

import numpy as np


def rises(activations: np.ndarray) -> np.ndarray:
    """Rise of activations at each position: `max(0, a[t] - a[t - 1])` with `a[-1] = 0`.

    Args:
        activations: float [T, features], positions in the order of the text.
    """
    return np.maximum(np.diff(activations, axis=0, prepend=0), 0)


def onsets(activations: np.ndarray) -> np.ndarray:
    """Onset of each feature: the position with its largest rise, the first of equals; int64 [features].

    Args:
        activations: float [T, features], positions in the order of the text.
    """
    return rises(activations).argmax(axis=0)


def strengths(activations: np.ndarray, lost: np.ndarray) -> np.ndarray:
    """Share of each position in what features lose: `sum_f lost_f rise_f(t) / sum_t' rise_f(t')`, divided by its sum.

    Features that lose nothing or gain take no part; all strengths are 0 if no feature loses anything.

    Args:
        activations: float [T, features], positions in the order of the text.
        lost: float [features], margin lost with each feature ablated.

    Returns:
        float64 [T], sum 1 or 0.
    """
    rise = rises(activations.astype(np.float64))
    total = rise.sum(axis=0)
    weights = np.divide(np.maximum(lost, 0), total, out=np.zeros(len(lost)), where=total > 0)
    strength = rise @ weights
    return strength / strength.sum() if strength.sum() > 0 else strength
