"""Route that classifies texts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from litestar import Request
from litestar.di import NamedDependency
from litestar.params import JSONBody

from tegakari.schemas.api import Page
from tegakari.schemas.inference import Classification, ClassifyRequest
from tegakari.schemas.progress import Progress
from tegakari.service.engine.cost_limits import CostLimits
from tegakari.service.engine.forward_to_models import client_of
from tegakari.service.engine.model_requests import BatchWork
from tegakari.service.engine.queue import ModelQueue
from tegakari.service.http.disconnect import while_connected
from tegakari.service.http.operations import run_models
from tegakari.service.http.parameters import OpenRun

if TYPE_CHECKING:
    from tegakari.analyses.engine.model_loader import ModelLoader


@run_models("/classify", "classifyTexts", "Classify texts")
async def classify_texts(
    run: OpenRun,
    model_queue: NamedDependency[ModelQueue],
    cost_limits: NamedDependency[CostLimits],
    data: JSONBody[ClassifyRequest],
    request: Request[Any, Any, Any],
) -> Page[Classification]:
    """Logits and probabilities of all labels for each text, in the order given."""
    tokens = cost_limits.tokens_of_texts(run, data.texts)
    work = model_queue.submit(run, _CLASSIFY, data, client=client_of(request.scope), tokens=tokens)
    return Page(await while_connected(request, work))


def _classify(
    load_models: ModelLoader, requests: Sequence[ClassifyRequest], progress: Progress
) -> Sequence[list[Classification]]:
    from tegakari.analyses import inference

    texts = [text for request in requests for text in request.texts]
    classifications = iter(inference.classify_texts(load_models(), texts, progress))
    return [[next(classifications) for _ in request.texts] for request in requests]


_CLASSIFY = BatchWork(_classify, key=lambda _: "classify")

RUN_HANDLERS = (classify_texts,)
