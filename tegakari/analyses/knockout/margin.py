"""Margin of a knockout: the logit of the expected label minus the largest other one.

Recall cannot fall where a classifier predicts the label without reading anything of it; the margin can.
"""

from __future__ import annotations

import numpy as np

from tegakari.analyses.statistics import interval_of_share, net_mean_interval
from tegakari.schemas.knockout import Margin
from tegakari.store import Run

MIN_DRAWS = 2
"""Control sets that a net effect needs."""
MIN_DOCUMENTS = 2

DECIMALS = 4
"""Decimals of a margin: fewer than the rounding of float32 logits, which differs with the size of a batch, changes."""


def margins(logits: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """Logit of each document's expected label minus the largest of the others, rounded, float64 [..., D].

    Args:
        logits: float32 [..., D, labels], at least two labels.
        expected: int [D], class of each document.
    """
    documents = np.arange(len(expected))
    of_label = logits[..., documents, expected].astype(np.float64)
    others = logits.copy()
    others[..., documents, expected] = -np.inf
    return np.round(of_label - others.max(-1), DECIMALS)


def margin_of(
    before: np.ndarray, after: np.ndarray, controls: np.ndarray, expected: np.ndarray, told_apart: bool | None
) -> Margin:
    """Mean margins before and after a knockout, and their change net of controls.

    Args:
        before: float32 [D, labels], logits with all features.
        after: float32 [D, labels], with the features ablated.
        controls: float32 [draws, D, labels], with each control set ablated.
        expected: int [D], class of each document.
        told_apart: of `tells_apart`; None where it has no answer.
    """
    margin_after = margins(after, expected)
    net = None
    if len(controls) >= MIN_DRAWS and len(expected) >= MIN_DOCUMENTS:
        net = net_mean_interval(margin_after, margins(controls, expected))
    return Margin(
        before=float(margins(before, expected).mean()),
        after=float(margin_after.mean()),
        net=net,
        told_apart=told_apart,
        beyond_control=None if net is None or told_apart is None else bool(told_apart and net.high < 0),
    )


def tells_apart(run: Run, label_id: int) -> bool:
    """Whether a run's classifier predicts a label more often in its own documents than in those of other labels.

    That is, whether the 95 % interval of the first share is above that of the second. A margin that falls says
    something about a label only if it does.

    Args:
        run: published.
        label_id: number of the label.
    """
    documents = run.blocks.documents
    own = np.asarray(documents.label_id) == label_id
    predicted = np.asarray(documents.predicted_id) == label_id
    return interval_of_share(predicted[own]).low > interval_of_share(predicted[~own]).high
