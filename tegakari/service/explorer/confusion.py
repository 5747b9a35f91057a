"""Page of a confusion: documents of one label that are predicted as another, and the features that tell them apart."""

from __future__ import annotations

from typing import Annotated, Any

from litestar import Request, Response
from litestar.params import PathParameter

from tegakari.analyses.confusion import SeparatingFeature, separating_features
from tegakari.schemas.api import DocumentRow
from tegakari.schemas.errors import QueryError
from tegakari.schemas.knockout import KnockoutSettings, LayerFeature
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
    documents = queries.documents(run, label=label, predicted=predicted, limit=DOCUMENTS_SHOWN, cursor=cursor)
    return render(
        request,
        "confusion",
        run=queries.run_summary(run),
        label=label,
        predicted=predicted,
        documents=documents,
        detail=queries.label(run, label),
        features=features,
        flip=_flip_settings(features, documents.items),
        stars=starred_features(run, [(row.layer, row.feature) for row in features]),
    )


def _flip_settings(features: list[SeparatingFeature], documents: list[DocumentRow]) -> KnockoutSettings | None:
    """A knockout of the features that are stronger in the wrong documents, in these documents; None: there are none."""
    stronger = [LayerFeature(row.layer, row.feature) for row in features if (row.cohens_d or 0.0) < 0]
    if not stronger or not documents:
        return None
    return KnockoutSettings(features=stronger, documents=[row.document for row in documents], details="predictions")


_separating_features = cached_per_run(separating_features)

RUN_HANDLERS = (confusion_page,)
