"""Route that encodes texts into active features."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from litestar import Request
from litestar.di import NamedDependency
from litestar.params import JSONBody

from tegakari.schemas.api import Page
from tegakari.schemas.errors import NotFoundError, QueryError
from tegakari.schemas.inference import EncodedText, EncodeRequest
from tegakari.schemas.progress import Progress
from tegakari.service.engine.queue import MAX_BATCH_TEXTS, BatchWork, ModelQueue
from tegakari.service.http.disconnect import while_connected
from tegakari.service.http.operations import run_models
from tegakari.service.http.parameters import OpenRun
from tegakari.store import Run

if TYPE_CHECKING:
    from tegakari.analyses.engine.run_models import RunModels


@run_models("/encode", "encodeTexts", "Active features of texts")
async def encode_texts(
    run: OpenRun,
    model_queue: NamedDependency[ModelQueue],
    data: JSONBody[EncodeRequest],
    request: Request[Any, Any, Any],
) -> Page[EncodedText]:
    """Strongest features of each text, pooled over its positions or position by position."""
    _check_request(run, data)
    return Page(await while_connected(request, model_queue.submit(run, _ENCODE, (run, data))))


def _check_request(run: Run, request: EncodeRequest) -> None:
    """Check layers and features of a request against the run.

    Raises:
        NotFoundError: the run has no such layer, or the layer no such feature.
        QueryError: features without exactly one layer.
    """
    widths = dict(zip(run.manifest.saes.layers, run.manifest.saes.widths, strict=True))
    for layer in request.layers or ():
        if layer not in widths:
            layers = ", ".join(map(str, widths))
            raise NotFoundError(f"run {run.name!r} has no layer {layer}", field="layers", fix=f"layers: {layers}")
    if request.features is None:
        return
    if request.layers is None or len(set(request.layers)) != 1:
        raise QueryError("features need exactly one layer", field="features", fix="give one layer in `layers`")
    (layer,) = set(request.layers)
    for feature in request.features:
        if feature >= widths[layer]:
            raise NotFoundError(
                f"layer {layer} has no feature {feature}",
                field="features",
                fix=f"features: 0 to {widths[layer] - 1}",
            )


def _encode(
    models: RunModels, requests: Sequence[tuple[Run, EncodeRequest]], progress: Progress
) -> Sequence[list[EncodedText]]:
    from tegakari.analyses.inference import EncodeQuery, encode_texts

    queries = [
        EncodeQuery(
            request.texts,
            tuple(sorted(set(run.manifest.saes.layers if request.layers is None else request.layers))),
            None if request.features is None else tuple(request.features),
            request.pooling or run.manifest.pooling,
            request.top,
        )
        for run, request in requests
    ]
    return encode_texts(models, queries, progress)


_ENCODE = BatchWork(key="encode", compute=_encode, size=lambda payload: len(payload[1].texts), max_size=MAX_BATCH_TEXTS)

RUN_HANDLERS = (encode_texts,)
