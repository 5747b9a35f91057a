"""Page of a feature: its statistics, labels, histogram, contexts, documents and neighbours."""

from __future__ import annotations

from typing import Annotated, Any, NamedTuple

import msgspec
import numpy as np
from litestar import Request, Response
from litestar.di import NamedDependency
from litestar.params import QueryParameter
from markupsafe import Markup

from tegakari.schemas.api import FeatureNeighbour
from tegakari.schemas.errors import NotFoundError, QueryError
from tegakari.schemas.explanations import Explanation
from tegakari.schemas.knockout import KnockoutSettings, LayerFeature
from tegakari.service.admission.authors import author_of_key
from tegakari.service.explorer import charts
from tegakari.service.explorer.contexts import context_groups
from tegakari.service.explorer.language import language_of
from tegakari.service.explorer.page import page, render
from tegakari.service.http.parameters import FEATURE_PATH, FeatureNumber, LayerNumber, OpenRun
from tegakari.store import Run, Store, queries
from tegakari.store.contexts import WINDOW
from tegakari.store.effects import feature_effects
from tegakari.store.explanations import feature_explanations
from tegakari.store.notes import notes, starred_features

CONTEXTS_SHOWN = 30
LABELS_SHOWN = 12
NEIGHBOURS_SHOWN = 8
EFFECTS_SHOWN = 3
BINS = 24
NOTES_SHOWN = 100

TokensBeside = Annotated[
    int, QueryParameter(name="beside", description="tokens of a context on each side", ge=1, le=WINDOW)
]


@page(FEATURE_PATH)
def feature_page(
    run: OpenRun,
    layer: LayerNumber,
    feature: FeatureNumber,
    request: Request[Any, Any, Any],
    tokens_beside: TokensBeside = WINDOW,
) -> Response[str]:
    """One feature of one layer."""
    detail = queries.feature(run, layer, feature, tokens=min(CONTEXTS_SHOWN, run.manifest.top_tokens), onset=True)
    width = run.manifest.saes.widths[run.manifest.saes.layers.index(layer)]
    found = notes(run, layer=layer, feature=feature, limit=NOTES_SHOWN)
    contexts = context_groups(run, layer, feature, tokens_beside)
    best = detail.labels[0].label if detail.labels and detail.labels[0].cohens_d is not None else None
    effects = _effects(run, layer, feature)
    return render(
        request,
        "feature",
        run=queries.run_summary(run),
        feature=detail,
        labels=detail.labels[:LABELS_SHOWN],
        effects=effects,
        ends=_ends(effects) if effects else None,
        all_labels=len(detail.labels),
        best=best,
        knockout=KnockoutSettings(features=[LayerFeature(layer, feature)], documents_of=best, details="predictions"),
        contexts=contexts,
        tokens_beside=tokens_beside,
        explanations=_explanations(run, layer, feature, language_of(request.scope)),
        largest=max((token.activation for token in detail.tokens), default=0.0),
        picture=_histogram(run, layer, feature, best),
        documents=queries.feature_documents(run, layer, feature, limit=10),
        previous=feature - 1 if feature > 0 else None,
        following=feature + 1 if feature + 1 < width else None,
        width=width,
        notes=found.items,
        notes_data=msgspec.to_builtins(found.items),
        more_notes=found.next is not None,
        author=author_of_key(request),
    )


def _effects(run: Run, layer: int, feature: int) -> dict[str, float] | None:
    """Effect on each label; None: the layer has no label effects."""
    try:
        values = feature_effects(run, layer, feature)
    except NotFoundError:
        return None
    return dict(zip(run.labels, values.tolist(), strict=True))


def _ends(effects: dict[str, float]) -> list[tuple[str, list[tuple[str, float]]]]:
    """The labels of the largest effects and of the smallest ones, each with its name among the texts."""
    ordered = sorted(effects.items(), key=lambda effect: -effect[1])
    return [("largest_effects", ordered[:EFFECTS_SHOWN]), ("smallest_effects", ordered[::-1][:EFFECTS_SHOWN])]


def _explanations(run: Run, layer: int, feature: int, language: str) -> list[Explanation]:
    """Explanations, the best first; of the deterministic ones the one in the language of the page."""
    rows = feature_explanations(run, layer, feature)
    return [row for row in rows if row.method != "terms" or row.language == language]


def _histogram(run: Run, layer: int, feature: int, label: str | None) -> Markup | None:
    """Pooled activations over the documents in which the feature is active: the best label's and the others'."""
    activations = run.activations_of(layer, feature)
    if not len(activations.document):
        return None
    own = run.blocks.documents.label_id[activations.document] == (run.label_id(label) if label is not None else -1)
    edges = np.linspace(0, float(activations.activation.max()), BINS + 1)
    groups = [np.histogram(activations.activation[mask], edges)[0].tolist() for mask in (own, ~own)]
    names = [label or "", "others"]
    return charts.histogram("activations by document", edges.tolist(), groups, names)


@page(f"{FEATURE_PATH}/neighbours", changes=True)
def neighbours_page(
    run: OpenRun,
    layer: LayerNumber,
    feature: FeatureNumber,
    store: NamedDependency[Store],
    request: Request[Any, Any, Any],
) -> Response[str]:
    """Features of close decoder directions, of this run and of the others."""
    others = [other for other in store.runs() if other.name != run.name]
    return render(
        request,
        "neighbours",
        run=queries.run_summary(run),
        layer=layer,
        number=feature,
        groups=[_neighbours(run, layer, feature, within) for within in (run, *others)],
    )


class Neighbours(NamedTuple):
    """Features of one run whose decoder directions are close to that of a feature."""

    run: str
    rows: list[FeatureNeighbour] | None
    """None: one of the runs has no vectors, or another width"""
    stars: frozenset[tuple[int, int]]


def _neighbours(run: Run, layer: int, feature: int, within: Run) -> Neighbours:
    try:
        rows = queries.feature_neighbours(run, layer, feature, within=within, limit=NEIGHBOURS_SHOWN)
    except (NotFoundError, QueryError):
        return Neighbours(within.name, None, frozenset())
    return Neighbours(within.name, rows, starred_features(within, [(row.layer, row.feature) for row in rows]))


RUN_HANDLERS = (feature_page, neighbours_page)
