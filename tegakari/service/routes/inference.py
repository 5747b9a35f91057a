"""The routes that run the classifier and the SAEs of a run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from litestar import Request, post
from litestar.datastructures import CacheControlHeader
from litestar.di import NamedDependency
from litestar.params import JSONBody

from tegakari.schemas.api import Page
from tegakari.schemas.errors import NotFoundError, QueryError
from tegakari.schemas.inference import Classification, ClassifyRequest, EncodedText, EncodeRequest
from tegakari.service.engine.queue import Batchable, ModelQueue, Progress
from tegakari.service.http.disconnect import while_connected
from tegakari.service.http.problems import documented
from tegakari.store import Run

if TYPE_CHECKING:
    from tegakari.analyses.engine.run_models import RunModels

TEXTS_TOGETHER = 64
"""texts of several requests that are answered together"""

NO_STORE = CacheControlHeader(no_store=True)

STATUSES = (400, 404, 409, 413, 500, 503)


@post(
    "/classify",
    operation_id="classifyTexts",
    summary="Classify texts",
    status_code=200,
    responses=documented(*STATUSES),
    cache_control=NO_STORE,
    live=True,
)
async def classify_texts(
    opened: NamedDependency[Run],
    live: NamedDependency[ModelQueue],
    data: JSONBody[ClassifyRequest],
    request: Request[Any, Any, Any],
) -> Page[Classification]:
    """Logits and probabilities of all labels for each text, in the order given."""
    answers = live.submit_batchable(opened, _CLASSIFY, data)
    return Page(await while_connected(request, answers))


@post(
    "/encode",
    operation_id="encodeTexts",
    summary="Active features of texts",
    status_code=200,
    responses=documented(*STATUSES),
    cache_control=NO_STORE,
    live=True,
)
async def encode_texts(
    opened: NamedDependency[Run],
    live: NamedDependency[ModelQueue],
    data: JSONBody[EncodeRequest],
    request: Request[Any, Any, Any],
) -> Page[EncodedText]:
    """Strongest features of each text, pooled over its positions or position by position."""
    answers = live.submit_batchable(opened, _ENCODE, (opened, _checked(opened, data)))
    return Page(await while_connected(request, answers))


def _checked(run: Run, asked: EncodeRequest) -> EncodeRequest:
    widths = dict(zip(run.manifest.saes.layers, run.manifest.saes.widths, strict=True))
    for layer in asked.layers or ():
        if layer not in widths:
            known = ", ".join(map(str, widths))
            raise NotFoundError(f"run {run.name!r} has no layer {layer}", field="layers", fix=f"layers: {known}")
    if asked.features is not None:
        if asked.layers is None or len(set(asked.layers)) != 1:
            raise QueryError("features are given, but not one layer", field="features", fix="give one layer")
        for feature in asked.features:
            if feature >= widths[asked.layers[0]]:
                raise NotFoundError(
                    f"layer {asked.layers[0]} has no feature {feature}",
                    field="features",
                    fix=f"features: 0 to {widths[asked.layers[0]] - 1}",
                )
    return asked


def _classify(
    models: RunModels, asked: Sequence[ClassifyRequest], progress: Progress
) -> Sequence[list[Classification]]:
    from tegakari.analyses.inference import classify_texts

    answers = iter(classify_texts(models, [text for request in asked for text in request.texts], progress))
    return [[next(answers) for _ in request.texts] for request in asked]


def _encode(
    models: RunModels, asked: Sequence[tuple[Run, EncodeRequest]], progress: Progress
) -> Sequence[list[EncodedText]]:
    from tegakari.analyses.inference import EncodeQuery, encode_texts

    questions = [
        EncodeQuery(
            request.texts,
            tuple(sorted(set(run.manifest.saes.layers if request.layers is None else request.layers))),
            None if request.features is None else tuple(request.features),
            request.pooling or run.manifest.pooling,
            request.top,
        )
        for run, request in asked
    ]
    return encode_texts(models, questions, progress)


_CLASSIFY = Batchable(key="classify", together=_classify, size=lambda request: len(request.texts), most=TEXTS_TOGETHER)
_ENCODE = Batchable(key="encode", together=_encode, size=lambda asked: len(asked[1].texts), most=TEXTS_TOGETHER)

HANDLERS = (classify_texts, encode_texts)
