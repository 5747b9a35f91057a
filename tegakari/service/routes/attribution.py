"""Route of attributions: what the label of a document or a text depends on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from litestar import Request
from litestar.concurrency import sync_to_thread
from litestar.di import NamedDependency
from litestar.params import JSONBody

from tegakari.analyses.attribution.settings import AttributionInput, attribution_input
from tegakari.schemas.attribution import Attribution, AttributionSettings
from tegakari.schemas.progress import Progress
from tegakari.service.engine.cost_limits import CostLimits
from tegakari.service.engine.forward_to_models import client_of
from tegakari.service.engine.model_requests import BatchWork
from tegakari.service.engine.queue import ModelQueue
from tegakari.service.http.disconnect import while_connected
from tegakari.service.http.operations import run_models
from tegakari.service.http.parameters import OpenRun
from tegakari.store import Run

if TYPE_CHECKING:
    from tegakari.analyses.engine.model_loader import ModelLoader


class _RunInput(NamedTuple):
    run: Run
    inputs: AttributionInput


@run_models("/attribution", "attributePrediction", "Why a document gets its label")
async def attribution(
    run: OpenRun,
    model_queue: NamedDependency[ModelQueue],
    cost_limits: NamedDependency[CostLimits],
    data: JSONBody[AttributionSettings],
    request: Request[Any, Any, Any],
) -> Attribution:
    """Tokens and features that the label of a document or a text depends on.

    Each of the features with the largest estimated effect is ablated alone; a greedy search ablates several together;
    both stand beside other active features, drawn at random. Nothing is stored.
    """
    inputs = await sync_to_thread(attribution_input, run, data)
    tokens = cost_limits.tokens_of_attribution(inputs.cost)
    payload = _RunInput(run, inputs)
    work = model_queue.submit(run, _ATTRIBUTION, payload, client=client_of(request.scope), tokens=tokens)
    return await while_connected(request, work)


def _attributions(load_models: ModelLoader, payloads: Sequence[_RunInput], progress: Progress) -> Sequence[Attribution]:
    from tegakari.analyses.attribution.compute import attribution

    models = load_models()
    return [attribution(models, payload.run, payload.inputs, progress) for payload in payloads]


_ATTRIBUTION = BatchWork(_attributions)

RUN_HANDLERS = (attribution,)
