"""Every question that is asked of a run, once: the API, the command line and reports all ask here.

What everybody asks all day is answered from the blocks blocks; the rest is SQL with bound parameters.
"""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec
import numpy as np

from tegakari.schemas.api import (
    HighD,
    LayerSpecificity,
    RunSummary,
)
from tegakari.schemas.config import Pooling
from tegakari.schemas.errors import NotFoundError
from tegakari.store.queries.parameters import check_pooling
from tegakari.store.reader import Run

T = TypeVar("T")


def run_summary(run: Run) -> RunSummary:
    """The run in a row."""
    return msgspec.convert(run.manifest, RunSummary, from_attributes=True)


_SPECIFICITY = """
SELECT cutoff, variety, features, layer FROM specificity WHERE pooling = $pooling ORDER BY layer, cutoff, variety
"""

HIGH_D_CUTOFFS = (1.0, 1.5, 2.0, 3.0)
"""Cut-offs at which "high d" is reported; the study does not say which it used."""


def specificity(run: Run, *, pooling: Pooling | None = None) -> list[LayerSpecificity]:
    """How specific the features of each layer are: variety histogram and high-d counts.

    Raises:
        QueryError: unknown pooling.
    """
    chosen = check_pooling(run, pooling)
    histogram: dict[tuple[int, float], dict[int, int]] = {}
    for row in run.rows(_SPECIFICITY, {"pooling": chosen}):
        histogram.setdefault((row["layer"], row["cutoff"]), {})[row["variety"]] = row["features"]
    answer = []
    for layer in run.rows("SELECT layer, d_sae, l0, explained_variance FROM layers ORDER BY layer"):
        counts = histogram.get((layer["layer"], run.manifest.variety_threshold), {})
        total = layer["d_sae"]
        answer.append(
            LayerSpecificity(
                layer=layer["layer"],
                features=total,
                l0=layer["l0"],
                explained_variance=layer["explained_variance"],
                weak=counts.get(0, 0),
                specific=counts.get(1, 0),
                shared=total - counts.get(0, 0) - counts.get(1, 0),
                mean_variety=sum(variety * count for variety, count in counts.items()) / total,
                high_d=[_high_d(cutoff, histogram.get((layer["layer"], cutoff), {})) for cutoff in HIGH_D_CUTOFFS],
            )
        )
    return answer


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
    """Numbers of the documents that the classifier was not trained on, int64, ascending.

    Raises:
        NotFoundError: the run has none.
    """
    match run.manifest.corpus.split:
        case "eval":
            return np.arange(run.manifest.corpus.documents)
        case "train":
            raise NotFoundError(
                f"run {run.name!r} has training documents only", field="run", fix="index the evaluation documents"
            )
        case _:
            found = run.query("SELECT document FROM documents WHERE split = 'eval' ORDER BY document")
            return found["document"].to_numpy().astype(np.int64)


def _rows(run: Run, sql: str, parameters: dict[str, Any], kind: type[T]) -> list[T]:
    return msgspec.convert(run.rows(sql, parameters), list[kind])
