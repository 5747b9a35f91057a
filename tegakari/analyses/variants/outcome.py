"""Outcome of written variants: survival per kind of pairs and k, with intervals, from the strongest features."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from tegakari.analyses.statistics import interval_of_mean
from tegakari.analyses.variants.survival import TextPairs, group_means, survivals
from tegakari.schemas.variants import LayerSurvival, Survival, VariantKind


class KindOfPairs(NamedTuple):
    """Pairs of texts of one kind."""

    kind: VariantKind
    pairs: TextPairs
    groups: int
    """number of groups, with or without pairs"""


def survival(pairs: KindOfPairs, k: int, strongest: np.ndarray, layers: Sequence[int], seed: int) -> Survival:
    """Survival of feature sets of size k, over pairs of one kind.

    Args:
        pairs: of texts.
        k: size of the feature sets.
        strongest: int64 [layers, texts, n], n >= k, of `strongest_features`.
        layers: of the run.
        seed: of the interval.
    """
    kind, text_pairs, groups = pairs
    values = np.stack([survivals(of_layer, text_pairs, k) for of_layer in strongest])  # [layers, P]
    by_group = np.stack([group_means(of_layer, text_pairs, groups) for of_layer in values])  # [layers, groups]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a group or layer without any value has the mean NaN
        of_groups, of_layers = np.nanmean(by_group, 0), np.nanmean(by_group, 1)
    with_value = of_groups[~np.isnan(of_groups)]
    texts = np.unique(np.concatenate([text_pairs.excluded, text_pairs.remaining]))
    return Survival(
        kind=kind,
        k=k,
        survival=interval_of_mean(with_value, seed) if len(with_value) else None,
        layers=[
            LayerSurvival(layer=layer, survival=_none_for_nan(value))
            for layer, value in zip(layers, of_layers.tolist(), strict=True)
        ],
        pairs=len(text_pairs.remaining),
        empty=int(np.isnan(values).sum()),
        small=int((strongest[:, texts, k - 1] < 0).sum()) if len(texts) else 0,
        of_concepts=[_none_for_nan(value) for value in of_groups.tolist()],
    )


def _none_for_nan(value: float) -> float | None:
    return None if np.isnan(value) else value
