"""How specific the features of a run are, overall (the study, Table 2)."""

from __future__ import annotations

import numpy as np

from tegakari.analyses.statistics import mean_interval
from tegakari.schemas.analysis import Interval
from tegakari.schemas.api import HighD
from tegakari.schemas.config import Pooling
from tegakari.schemas.study import SpecificityResult
from tegakari.store import Run, queries


def overall_specificity(run: Run, *, pooling: Pooling | None = None, seed: int = 0) -> SpecificityResult:
    """Over the features of all layers; layer by layer it is `queries.specificity`.

    Raises:
        QueryError: unknown pooling.
    """
    chosen = queries.check_pooling(run, pooling)
    variety = np.asarray(run.blocks.features[f"variety_{chosen}"])
    low, high = mean_interval(variety.astype(np.float64), seed)
    layers = queries.specificity(run, pooling=chosen)
    at_cutoff = zip(*(layer.high_d for layer in layers), strict=True)
    return SpecificityResult(
        run=run.name,
        pooling=chosen,
        threshold=run.manifest.variety_threshold,
        features=len(variety),
        mean_variety=Interval(value=float(variety.mean()), low=low, high=high),
        weak=int((variety == 0).sum()),
        specific=int((variety == 1).sum()),
        shared=int((variety > 1).sum()),
        high_d=[_sum(list(same)) for same in at_cutoff],
        layers=layers,
    )


def _sum(layers: list[HighD]) -> HighD:
    features, single = sum(each.features for each in layers), sum(each.single_label for each in layers)
    return HighD(
        cutoff=layers[0].cutoff,
        features=features,
        single_label=single,
        single_label_share=single / features if features else None,
    )
