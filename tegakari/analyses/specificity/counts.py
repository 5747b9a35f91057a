"""Counts of specificity under assignments of labels, and their null: mean and range over permutations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from tegakari.analyses.specificity.best_labels import BestLabels
from tegakari.analyses.statistics import PERCENTILES
from tegakari.schemas.analysis import Interval
from tegakari.schemas.api import Chance, HighDChance
from tegakari.store.queries.runs import HIGH_D_CUTOFFS


class Counts(NamedTuple):
    """Per assignment of labels; int64 [assignments], or [assignments, cut-offs]."""

    specific: np.ndarray
    """features with variety 1"""
    shared: np.ndarray
    """features with variety 2 or more"""
    labels: np.ndarray
    """sum of the varieties"""
    supported: np.ndarray
    """specific features that are active in enough documents of their label"""
    high_d: np.ndarray
    """features with d above each of HIGH_D_CUTOFFS"""
    single_label: np.ndarray
    """specific features among them"""


def counts(best: BestLabels, min_active: int) -> Counts:
    """Counts of the features of one layer.

    Args:
        best: of each assignment and feature.
        min_active: documents of its label in which a supported feature is active.
    """
    specific = best.variety == 1
    above = np.array(HIGH_D_CUTOFFS) < best.d[:, :, None]
    return Counts(
        specific=specific.sum(1),
        shared=(best.variety > 1).sum(1),
        labels=best.variety.sum(1, dtype=np.int64),
        supported=(specific & (best.active >= min_active)).sum(1),
        high_d=above.sum(1),
        single_label=(above & specific[:, :, None]).sum(1),
    )


def total(layers: Sequence[Counts]) -> Counts:
    """Counts of all layers, under the same assignments."""
    return Counts(*(np.sum(columns, axis=0) for columns in zip(*layers, strict=True)))


def chance(real: Counts, permuted: Counts, features: int, significant: int, significant_specific: int) -> Chance:
    """Counts under permuted labels, beside those that are beyond them.

    Args:
        real: under the labels of the documents; one assignment.
        permuted: under permutations.
        features: number of features that the counts are of.
        significant: features with d above the threshold and a small q-value.
        significant_specific: specific features among them.
    """
    return Chance(
        specific=_null(permuted.specific),
        shared=_null(permuted.shared),
        mean_variety=_null(permuted.labels / features),
        high_d=[
            HighDChance(cutoff=cutoff, features=_null(above), single_label=_null(single))
            for cutoff, above, single in zip(HIGH_D_CUTOFFS, permuted.high_d.T, permuted.single_label.T, strict=True)
        ],
        supported=int(real.supported[0]),
        supported_by_chance=_null(permuted.supported),
        significant=significant,
        significant_specific=significant_specific,
    )


def _null(values: np.ndarray) -> Interval:
    low, high = np.percentile(values, PERCENTILES)
    return Interval(value=float(values.mean()), low=float(low), high=float(high))
