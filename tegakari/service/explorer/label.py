"""Page of a label: its score, its confusions, its layers and its features."""

from __future__ import annotations

from typing import Any

import numpy as np
from litestar import Request, Response
from markupsafe import Markup

from tegakari.analyses.clue_words import clue_words
from tegakari.analyses.statistics import interval_of_share
from tegakari.schemas.analysis import Interval
from tegakari.schemas.filters import parse_variety
from tegakari.service.engine.result_cache import cached_per_run
from tegakari.service.explorer import charts
from tegakari.service.explorer.language import language_of
from tegakari.service.explorer.page import figure, page, render
from tegakari.service.http.parameters import Cursor, LabelName, LayerFilter, OpenRun, VarietyFilter
from tegakari.store import Run, queries
from tegakari.store.explanations import best_explanations
from tegakari.store.notes import starred_features

FEATURES_SHOWN = 25

_PREDICTED_AS = """
SELECT l.label AS label, c.documents AS documents
FROM confusion c JOIN labels l ON l.label_id = c.label_id
WHERE c.predicted_id = $label_id AND c.label_id <> $label_id AND c.documents > 0
ORDER BY c.documents DESC, c.label_id
"""


@page("/labels/{label:str}")
def label_page(
    run: OpenRun,
    label: LabelName,
    request: Request[Any, Any, Any],
    layer: LayerFilter = None,
    variety: VarietyFilter = None,
    cursor: Cursor = None,
) -> Response[str]:
    """A label, with a page of its features by Cohen's d."""
    detail = queries.label(run, label)
    features = queries.label_features(
        run,
        label,
        layer=layer,
        variety=parse_variety(variety) if variety is not None else None,
        limit=FEATURES_SHOWN,
        cursor=cursor,
        onset=True,
    )
    others = run.rows(_PREDICTED_AS, {"label_id": run.label_id(label)})
    return render(
        request,
        "label",
        run=queries.run_summary(run),
        label=detail,
        recall=_recall_interval(run, label),
        clues=_clue_words(run, label),
        predicted_as=[(row["label"], row["documents"]) for row in others],
        features=features,
        stars=starred_features(run, [(row.layer, row.feature) for row in features.items]),
        explanations=best_explanations(
            run, [(row.layer, row.feature) for row in features.items], language=language_of(request.scope)
        ),
        layer=layer,
        variety=variety,
        picture=_strip(run, label),
        best_layer=_best_layer(run, label),
    )


def _recall_interval(run: Run, label: str) -> Interval | None:
    documents = run.blocks.documents
    number = run.label_id(label)
    of_label = documents.label_id == number
    return interval_of_share(documents.predicted_id[of_label] == number) if of_label.any() else None


def _strip(run: Run, label: str) -> Markup:
    """Largest Cohen's d of the label in each layer, and the number of features above the run's threshold."""
    manifest, number = run.manifest, run.label_id(label)
    d = run.blocks.statistics["d", manifest.pooling][number]
    rows = []
    for layer in manifest.saes.layers:
        values = d[run.blocks.places.slice_of(layer)]
        defined = values[~np.isnan(values)]
        largest = float(defined.max()) if len(defined) else 0.0
        above = int((defined > manifest.variety_threshold).sum())
        rows.append(
            charts.Bar(
                str(layer),
                (largest,),
                f"layer {layer}: largest d {largest:.2f}; {above:,} features above the threshold",
                figure(largest, 1),
            )
        )
    return charts.bars("largest Cohen's d by layer", rows)


def _best_layer(run: Run, label: str) -> int:
    """Layer of the feature with the label's largest d; the last one for a label without features."""
    strongest = queries.label_features(run, label, limit=1).items
    return strongest[0].layer if strongest else run.manifest.saes.layers[-1]


_clue_words = cached_per_run(clue_words)

RUN_HANDLERS = (label_page,)
