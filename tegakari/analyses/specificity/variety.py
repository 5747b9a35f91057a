"""Interval of the mean label variety over documents, and label variety by the unweighted d."""

from __future__ import annotations

import numpy as np
from scipy.stats import t

from tegakari.analyses.statistics import PERCENTILES
from tegakari.schemas.analysis import Interval
from tegakari.schemas.specificity import UnweightedVariety
from tegakari.store import Run
from tegakari.store.queries.unweighted_d import unweighted_d

HALF_SAMPLES = 40


def variety_interval(mean_variety: float, of_halves: np.ndarray) -> Interval:
    """Mean label variety with the interval of what other documents, as many and of the same labels, would give.

    The standard error is the standard deviation over halves of the documents: the delete-d jackknife with d = n / 2
    (Shao and Wu 1989, Annals of Statistics 17, 1176-1197). Groups of few documents overstate it twofold, because a
    count of features above a threshold is not a smooth function of the documents.

    Args:
        mean_variety: over all documents.
        of_halves: float [halves], over each of HALF_SAMPLES random halves.
    """
    distance = float(t.ppf(PERCENTILES[1] / 100, len(of_halves) - 1) * of_halves.std(ddof=1))
    return Interval(value=mean_variety, low=max(0.0, mean_variety - distance), high=mean_variety + distance)


def unweighted_variety(run: Run) -> UnweightedVariety:
    """Label variety over all layers with the unweighted d in place of d."""
    pooling, documents = run.manifest.pooling, np.array(run.label_documents)
    features, statistics = run.blocks.features, run.blocks.statistics
    parts = []
    for layer in run.manifest.saes.layers:
        places = run.blocks.places.slice_of(layer)
        d = unweighted_d(
            statistics["mean", pooling][:, places],
            statistics["sd", pooling][:, places],
            documents[:, None],
            features[f"mean_{pooling}"][places],
            features[f"sd_{pooling}"][places],
            int(documents.sum()),
        )
        parts.append((np.nan_to_num(d, nan=-np.inf) > run.manifest.variety_threshold).sum(0))
    variety = np.concatenate(parts)
    return UnweightedVariety(
        mean_variety=float(variety.mean()), specific=int((variety == 1).sum()), shared=int((variety > 1).sum())
    )
