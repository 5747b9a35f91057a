"""Route that explains the label of a document or a text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from litestar import Request
from litestar.concurrency import sync_to_thread
from litestar.di import NamedDependency
from litestar.params import JSONBody

from tegakari.analyses.explanation.settings import ExplanationInput, explanation_input
from tegakari.schemas.explanation import Explanation, ExplanationSettings
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
    explained: ExplanationInput


@run_models("/explain", "explainDocument", "Why a document gets its label")
async def explain(
    run: OpenRun,
    model_queue: NamedDependency[ModelQueue],
    cost_limits: NamedDependency[CostLimits],
    data: JSONBody[ExplanationSettings],
    request: Request[Any, Any, Any],
) -> Explanation:
    """Tokens and features that the label of a document or a text depends on.

    Each of the features with the largest estimated effect is ablated alone; a greedy search ablates several together;
    both stand beside other active features, drawn at random. Nothing is stored.
    """
    explained = await sync_to_thread(explanation_input, run, data)
    tokens = cost_limits.tokens_of_explanation(explained.cost)
    payload = _RunInput(run, explained)
    work = model_queue.submit(run, _EXPLAIN, payload, client=client_of(request.scope), tokens=tokens)
    return await while_connected(request, work)


def _explain(load_models: ModelLoader, payloads: Sequence[_RunInput], progress: Progress) -> Sequence[Explanation]:
    from tegakari.analyses.explanation.compute import explain

    models = load_models()
    return [explain(models, payload.run, payload.explained, progress) for payload in payloads]


_EXPLAIN = BatchWork(_explain)

RUN_HANDLERS = (explain,)
