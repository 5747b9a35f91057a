"""Cohen's d with the unweighted mean of both variances, from the stored moments of a label and of all documents."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

SMALLEST_VARIANCE = 1e-6
"""Share of the squared difference of means; a smaller variance is rounding of the stored float32."""


def unweighted_d(
    mean: np.ndarray,
    sd: np.ndarray,
    n: Sequence[int] | np.ndarray | int,
    document_mean: np.ndarray,
    document_sd: np.ndarray,
    documents: int,
) -> np.ndarray:
    """`d = (m_c - m_r) / s`, `s^2 = (s_c^2 + s_r^2) / 2` (Cohen 1988, section 2.3.3), for a label c and its rest r.

    The d that rankings use weights the variances by the numbers of documents. With 107 labels the rest decides it, and
    a feature that is active in 2 of 120 documents and nowhere else has d = 1.3; its unweighted d is 0.18.
    `m_r` and `s_r` follow from the moments of all documents, because
    `M2 = M2_c + M2_r + n_c n_r / (n_c + n_r) (m_c - m_r)^2`.

    Args:
        mean: of the label's documents.
        sd: ddof 1, of the same.
        n: documents of the label.
        document_mean: of all documents.
        document_sd: ddof 1, of the same.
        documents: number of all documents.

    Returns:
        float64; NaN for a label with fewer than 2 documents or a rest of fewer than 2, and without variance.
    """
    n = np.asarray(n, np.float64)
    mean, variance = np.asarray(mean, np.float64), np.asarray(sd, np.float64) ** 2
    n_rest = documents - n
    with np.errstate(divide="ignore", invalid="ignore"):
        difference = (mean - document_mean) * documents / n_rest
        m2_rest = (documents - 1) * document_sd**2 - (n - 1) * variance - n * n_rest / documents * difference**2
        pooled = (variance + np.maximum(m2_rest, 0) / (n_rest - 1)) / 2
        d = difference / np.sqrt(pooled)
    defined = (n >= 2) & (n_rest >= 2) & (pooled > SMALLEST_VARIANCE * difference**2)
    return np.where(defined, d, np.nan)
