"""Page of a confusion: documents of one label that are predicted as another, and the features that tell them apart."""

from __future__ import annotations

from typing import Annotated, Any

from litestar import Request, Response
from litestar.params import PathParameter

from tegakari.analyses.confusion import separating_features
from tegakari.schemas.errors import QueryError
from tegakari.service.engine.result_cache import cached_per_run
from tegakari.service.explorer.page import page, render
from tegakari.service.http.parameters import Cursor, LabelName, OpenRun
from tegakari.store import queries
from tegakari.store.notes import starred_features

DOCUMENTS_SHOWN = 25
FEATURES_SHOWN = 20

PredictedName = Annotated[str, PathParameter(description="label that the classifier gives, percent-encoded")]


@page("/confusions/{label:str}/{predicted:str}")
def confusion_page(
    run: OpenRun,
    label: LabelName,
    predicted: PredictedName,
    request: Request[Any, Any, Any],
    cursor: Cursor = None,
) -> Response[str]:
    """Documents of `label` that the classifier gives `predicted`."""
    if label == predicted:
        raise QueryError(
            f"{label!r} is confused with itself", field="predicted", fix="name two labels; the label has its own page"
        )
    features = _separating_features(run, label, predicted)[:FEATURES_SHOWN]
    return render(
        request,
        "confusion",
        run=queries.run_summary(run),
        label=label,
        predicted=predicted,
        documents=queries.documents(run, label=label, predicted=predicted, limit=DOCUMENTS_SHOWN, cursor=cursor),
        detail=queries.label(run, label),
        features=features,
        stars=starred_features(run, [(row.layer, row.feature) for row in features]),
    )


_separating_features = cached_per_run(separating_features)

RUN_HANDLERS = (confusion_page,)
