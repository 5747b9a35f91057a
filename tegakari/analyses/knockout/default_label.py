"""The label that a classifier predicts where it reads nothing: other labels lose their documents to it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from tegakari.schemas.knockout import KnockoutResult

MAX_PROBABILITY = 0.025
"""Largest probability that a label takes as many documents if all others are as likely."""


class DefaultLabel(NamedTuple):
    """A label whose recall need not fall without its features."""

    knockout: KnockoutResult
    """of the label; not beyond its control by recall"""
    taken: int
    """documents that other labels lose to it in their knockouts"""
    lost: int
    """documents that other labels lose"""


def default_label(results: Sequence[KnockoutResult], labels: int) -> DefaultLabel | None:
    """The label that takes most of the documents which other labels lose, if its own recall does not show its knockout.

    None if that label is beyond its control by recall, or takes no more than chance gives (binomial distribution).

    Args:
        results: knockouts of a run, one per label.
        labels: number of labels of the run.
    """
    from scipy.special import bdtrc

    taken: Counter[str] = Counter()
    for result in results:
        taken.update({place.label: place.documents for place in result.lost})
    knockouts = {result.settings.label: result for result in results}
    if not taken or labels < 3:  # of two labels each takes all that the other loses
        return None
    label, documents = taken.most_common(1)[0]
    knockout = knockouts.get(label)
    if knockout is None or knockout.beyond_control is not False:
        return None
    lost = sum(place.documents for result in results if result is not knockout for place in result.lost)
    if bdtrc(documents - 1, lost, 1 / (labels - 1)) > MAX_PROBABILITY:
        return None
    return DefaultLabel(knockout, documents, lost)
