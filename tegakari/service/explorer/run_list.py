"""Page of all runs."""

from __future__ import annotations

from typing import Any, NamedTuple

import structlog
from litestar import Request, Response
from litestar.di import NamedDependency

from tegakari.analyses.classification import with_baseline
from tegakari.schemas.analysis import Interval
from tegakari.schemas.api import LayerSpecificity, RunSummary
from tegakari.schemas.errors import NotFoundError, StoreError
from tegakari.service.engine.result_cache import cached_per_run
from tegakari.service.engine.run_scores import majority_of_run, scores_of_run
from tegakari.service.explorer.page import page, render
from tegakari.store import Run, Store, queries

log = structlog.get_logger()


class Scores(NamedTuple):
    """Macro-F1 of a run's classifier on the evaluation documents, and of what it has to beat."""

    macro_f1: Interval
    baseline: float
    trained: bool
    """whether the baseline is that of the classifier's report, TF-IDF with a linear support vector classifier; else it
    gives every document the most frequent label"""


class RunEntry(NamedTuple):
    """A run in the list."""

    summary: RunSummary
    scores: Scores | None
    """None: the run has no evaluation documents"""
    l0: float
    """mean over layers"""
    explained_variance: float | None
    """mean over the layers for which it was measured"""


@page("/", changes=True)
def runs_page(store: NamedDependency[Store], request: Request[Any, Any, Any]) -> Response[str]:
    """All published runs, and what could not be read."""
    entries, damaged = [], []
    for name in store.names():
        try:
            entries.append(_entry(store.run(name)))
        except NotFoundError:  # deleted since it was listed
            continue
        except StoreError as error:  # one damaged run must not hide the others
            log.warning("run left out", run=name, reason=str(error))
            damaged.append(name)
    return render(request, "runs", entries=entries, damaged=damaged, remote=store.remote())


@cached_per_run
def layers_of(run: Run) -> list[LayerSpecificity]:
    """Specificity of a run's layers, without what analyses add to it."""
    return queries.specificity(run)


def scores_beside_baseline(run: Run) -> Scores | None:
    """Scores on the evaluation documents; None: there are none."""
    try:
        result = with_baseline(run, scores_of_run(run))
        trained = result.baseline_macro_f1
        return Scores(result.macro_f1, majority_of_run(run) if trained is None else trained, trained is not None)
    except NotFoundError:
        return None


def _entry(run: Run) -> RunEntry:
    layers = layers_of(run)
    variances = [layer.explained_variance for layer in layers if layer.explained_variance is not None]
    return RunEntry(
        queries.run_summary(run),
        scores_beside_baseline(run),
        sum(layer.l0 for layer in layers) / max(len(layers), 1),
        sum(variances) / len(variances) if variances else None,
    )


HANDLERS = (runs_page,)
