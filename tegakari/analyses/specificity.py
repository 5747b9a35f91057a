"""Specificity: the number of labels that features carry, over all layers of a run (the study, Table 2)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tegakari.analyses.statistics import interval_of_mean
from tegakari.schemas.api import HighD
from tegakari.schemas.config import Pooling
from tegakari.schemas.study import SpecificityResult
from tegakari.store import Run, queries


def overall_specificity(run: Run, *, pooling: Pooling | None = None, seed: int = 0) -> SpecificityResult:
    """Specificity over the features of all layers; `queries.specificity` has it per layer.

    Args:
        run: published.
        pooling: of d; default: the run's.
        seed: of the interval.

    Raises:
        QueryError: unknown pooling.
    """
    checked = queries.check_pooling(run, pooling)
    variety = np.asarray(run.blocks.features[f"variety_{checked}"])
    layers = queries.specificity(run, pooling=checked)
    layers_by_cutoff = zip(*(layer.high_d for layer in layers), strict=True)
    return SpecificityResult(
        run=run.name,
        pooling=checked,
        threshold=run.manifest.variety_threshold,
        features=len(variety),
        mean_variety=interval_of_mean(variety.astype(np.float64), seed),
        weak=int((variety == 0).sum()),
        specific=int((variety == 1).sum()),
        shared=int((variety > 1).sum()),
        high_d=[_sum(of_layers) for of_layers in layers_by_cutoff],
        layers=layers,
    )


def _sum(layers: Sequence[HighD]) -> HighD:
    features = sum(layer.features for layer in layers)
    single_label = sum(layer.single_label for layer in layers)
    return HighD(
        cutoff=layers[0].cutoff,
        features=features,
        single_label=single_label,
        single_label_share=single_label / features if features else None,
    )
