"""Queries about a run as a whole: summary, specificity, evaluation documents."""

from __future__ import annotations

import msgspec
import numpy as np

from tegakari.schemas.api import (
    HighD,
    LayerSpecificity,
    RunSummary,
)
from tegakari.schemas.errors import NotFoundError
from tegakari.store.queries.parameters import check_pooling
from tegakari.store.reader import Run


def run_summary(run: Run) -> RunSummary:
    """Row of the run in a list."""
    return msgspec.convert(run.manifest, RunSummary, from_attributes=True)


_SPECIFICITY = """
SELECT cutoff, variety, features, layer FROM specificity WHERE pooling = $pooling ORDER BY layer, cutoff, variety
"""

HIGH_D_CUTOFFS = (1.0, 1.5, 2.0, 3.0)
"""Cut-offs for "high d"; the study does not state its own."""


def specificity(run: Run, *, pooling: str | None = None) -> list[LayerSpecificity]:
    """Specificity of the features of each layer: counts by label variety and of high d.

    Raises:
        QueryError: no such pooling.
    """
    pooling = check_pooling(run, pooling)
    histogram: dict[tuple[int, float], dict[int, int]] = {}
    for row in run.rows(_SPECIFICITY, {"pooling": pooling}):
        histogram.setdefault((row["layer"], row["cutoff"]), {})[row["variety"]] = row["features"]
    layers = []
    for layer in run.rows("SELECT * FROM layers ORDER BY layer"):
        counts = histogram.get((layer["layer"], run.manifest.variety_threshold), {})
        total = layer["d_sae"]
        layers.append(
            LayerSpecificity(
                layer=layer["layer"],
                features=total,
                l0=layer["l0"],
                explained_variance=layer["explained_variance"],
                explained_variance_all=layer["explained_variance_all"],
                outlier_positions=layer["outlier_positions"],
                weak=counts.get(0, 0),
                specific=counts.get(1, 0),
                shared=total - counts.get(0, 0) - counts.get(1, 0),
                mean_variety=sum(variety * count for variety, count in counts.items()) / total,
                high_d=[_high_d(cutoff, histogram.get((layer["layer"], cutoff), {})) for cutoff in HIGH_D_CUTOFFS],
            )
        )
    return layers


def _high_d(cutoff: float, counts: dict[int, int]) -> HighD:
    above = sum(count for variety, count in counts.items() if variety > 0)
    single = counts.get(1, 0)
    return HighD(
        cutoff=cutoff, features=above, single_label=single, single_label_share=single / above if above else None
    )


def layer_l0(run: Run) -> list[float]:
    """Active features per position of each layer, in the order of layers."""
    return [row["l0"] for row in run.rows("SELECT l0 FROM layers ORDER BY layer")]


def evaluation_documents(run: Run) -> np.ndarray:
    """Numbers of the documents that the classifier was not trained on; int64, ascending.

    Raises:
        NotFoundError: the run has no such documents.
    """
    match run.manifest.corpus.split:
        case "eval":
            return np.arange(run.manifest.corpus.documents)
        case "train":
            raise NotFoundError(
                f"run {run.name!r} has training documents only", field="run", fix="index the evaluation documents"
            )
        case _:
            rows = run.query("SELECT document FROM documents WHERE split = 'eval' ORDER BY document")
            return rows["document"].to_numpy().astype(np.int64)
