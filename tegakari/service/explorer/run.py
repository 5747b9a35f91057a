"""Page of a run: its labels, layers, worst confusions and circuit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal, NamedTuple

from litestar import Request, Response
from litestar.di import NamedDependency
from litestar.params import QueryParameter
from markupsafe import Markup

from tegakari.schemas.analysis_kinds import CIRCUIT_ANALYSIS
from tegakari.schemas.api import LabelRow, LayerSpecificity
from tegakari.schemas.circuit import CircuitResult
from tegakari.schemas.errors import NotFoundError
from tegakari.service.explorer import charts
from tegakari.service.explorer.page import page, render
from tegakari.service.explorer.run_list import layers_of, scores_beside_baseline
from tegakari.service.http.parameters import OpenRun
from tegakari.store import Run, Store, queries
from tegakari.store.results import selected_result

LabelOrder = Literal["f1", "label", "documents", "precision", "recall", "specific_features", "shared_features"]

LabelSort = Annotated[LabelOrder, QueryParameter(description="figure by which labels are sorted")]
FirstLabel = Annotated[int, QueryParameter(description="number of the first label that is shown, from 0")]

LABELS_SHOWN = 100
CONFUSIONS_SHOWN = 12

_CONFUSIONS = """
SELECT l.label AS label, p.label AS predicted, c.documents AS documents, l.documents AS documents_of_label
FROM confusion c JOIN labels l ON l.label_id = c.label_id JOIN labels p ON p.label_id = c.predicted_id
WHERE c.label_id <> c.predicted_id AND c.documents > 0
ORDER BY c.documents DESC, c.label_id, c.predicted_id LIMIT $limit
"""


class ConfusionRow(NamedTuple):
    """Documents of one label that are predicted as another."""

    label: str
    predicted: str
    documents: int
    documents_of_label: int


@page("/")
def run_page(
    run: OpenRun,
    store: NamedDependency[Store],
    request: Request[Any, Any, Any],
    sort: LabelSort = "f1",
    first: FirstLabel = 0,
) -> Response[str]:
    """Labels by a figure, lowest scores first, layers by the variety of their features, confusions, circuit."""
    labels = sorted(queries.labels(run), key=lambda row: _sort_key(row, sort))
    confusions = [ConfusionRow(**row) for row in run.rows(_CONFUSIONS, {"limit": CONFUSIONS_SHOWN})]
    layers = layers_of(run)
    first = max(0, min(first, len(labels) - 1)) if labels else 0
    return render(
        request,
        "run",
        run=queries.run_summary(run),
        scores=scores_beside_baseline(run),
        labels=labels[first : first + LABELS_SHOWN],
        all_labels=len(labels),
        first=first,
        shown=LABELS_SHOWN,
        sort=sort,
        layers=layers,
        layer_picture=layer_picture(layers),
        confusions=confusions,
        circuit=circuit_of(run, store),
    )


def _sort_key(row: LabelRow, sort: LabelOrder) -> tuple[object, ...]:
    value = getattr(row, sort)
    return (value,) if sort in ("label", "f1", "precision", "recall") else (-value, row.label)


def layer_picture(layers: Sequence[LayerSpecificity]) -> Markup:
    """Label-specific and shared features by layer."""
    return charts.bars(
        "label-specific and shared features by layer",
        [
            charts.Bar(
                str(layer.layer),
                (layer.specific, layer.shared),
                f"layer {layer.layer}: {layer.specific:,} specific, {layer.shared:,} shared, {layer.weak:,} weak",
                str(layer.specific + layer.shared),
            )
            for layer in layers
        ],
    )


def circuit_of(run: Run, store: Store) -> Markup | None:
    """Picture of the stored circuit of a run; None: there is none."""
    try:
        return circuit_picture(selected_result(store.directory, CIRCUIT_ANALYSIS, [run.manifest]))
    except NotFoundError:
        return None


def circuit_picture(circuit: CircuitResult) -> Markup:
    """Effect of each component; those in the circuit have a border."""
    value = "study_effect" if circuit.settings.membership == "study" else "effect"
    effects = {(part.component, part.layer): part for part in circuit.components}
    largest = max((abs(getattr(part, value).value) for part in circuit.components), default=0) or 1
    rows = []
    for component in ("attention", "mlp"):
        cells = []
        for layer in range(circuit.layers):
            part = effects[component, layer]
            effect = getattr(part, value)
            title = f"{component} of layer {layer}: {effect.value:.3f} ({effect.low:.3f} to {effect.high:.3f})"
            cells.append(charts.Cell(effect.value / largest, title, part.in_circuit))
        rows.append((component, cells))
    return charts.heat_map("effect of each component", rows, [str(layer) for layer in range(circuit.layers)])


RUN_HANDLERS = (run_page,)
