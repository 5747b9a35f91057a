"""Queries about a run as a whole: summary, specificity, evaluation documents."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np

from tegakari.schemas.analysis_kinds import SPECIFICITY_ANALYSIS
from tegakari.schemas.api import (
    Chance,
    HighD,
    LayerSpecificity,
    RunSummary,
)
from tegakari.schemas.errors import NotFoundError, QueryError
from tegakari.schemas.run import RunManifest
from tegakari.store.queries.parameters import check_pooling
from tegakari.store.reader import Run
from tegakari.store.results import selected_result


def run_summary(run: Run) -> RunSummary:
    """Row of the run in a list."""
    return msgspec.convert(run.manifest, RunSummary, from_attributes=True)


def remote_summary(manifest: RunManifest) -> RunSummary:
    """Row of a run whose files are in a bucket."""
    return msgspec.structs.replace(msgspec.convert(manifest, RunSummary, from_attributes=True), state="remote")


_SPECIFICITY = """
SELECT cutoff, variety, features, specific, layer FROM specificity WHERE pooling = $pooling
ORDER BY layer, cutoff, variety
"""

HIGH_D_CUTOFFS = (1.0, 1.5, 2.0, 3.0)
"""Cut-offs for "high d"; the study does not state its own."""


def specificity(run: Run, *, pooling: str | None = None, analysis: str | None = None) -> list[LayerSpecificity]:
    """Specificity of the features of each layer: counts by label variety and of high d.

    Args:
        run: the run.
        pooling: pooling of the counts; default: the run's.
        analysis: id of the stored analysis whose permuted labels are shown beside the counts, for the run's pooling;
            default: that with the default settings, if it is stored.

    Raises:
        QueryError: no such pooling, or an analysis with another pooling than the run's.
        NotFoundError: no such analysis of this run.
    """
    pooling = check_pooling(run, pooling)
    rows: dict[tuple[int, float], list[dict[str, Any]]] = defaultdict(list)
    for row in run.rows(_SPECIFICITY, {"pooling": pooling}):
        rows[row["layer"], row["cutoff"]].append(row)
    if analysis is not None and pooling != run.manifest.pooling:
        raise QueryError(
            f"analyses of specificity are by the run's pooling, {run.manifest.pooling!r}",
            field="pooling",
            fix="leave out pooling, or analysis",
        )
    chance = _stored_chance(run, analysis) if pooling == run.manifest.pooling else {}
    layers = []
    for layer in run.rows("SELECT * FROM layers ORDER BY layer"):
        counts = {row["variety"]: row["features"] for row in rows[layer["layer"], run.manifest.variety_threshold]}
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
                high_d=[_high_d(cutoff, rows[layer["layer"], cutoff]) for cutoff in HIGH_D_CUTOFFS],
                chance=chance.get(layer["layer"]),
            )
        )
    return layers


def _high_d(cutoff: float, rows: Sequence[dict[str, Any]]) -> HighD:
    above = [row for row in rows if row["variety"] > 0]
    features, single_label = sum(row["features"] for row in above), sum(row["specific"] for row in above)
    return HighD(
        cutoff=cutoff,
        features=features,
        single_label=single_label,
        single_label_share=single_label / features if features else None,
        single_label_at_cutoff=sum(row["features"] for row in above if row["variety"] == 1),
    )


def _stored_chance(run: Run, analysis: str | None) -> dict[int, Chance]:
    """Specificity under permuted labels by layer, of a stored analysis; {} if that of the defaults is not stored."""
    try:
        result = selected_result(run.store, SPECIFICITY_ANALYSIS, [run.manifest], analysis)
    except NotFoundError:
        if analysis is not None:
            raise
        return {}
    return {layer.layer: layer.chance for layer in result.layers if layer.chance is not None}


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
