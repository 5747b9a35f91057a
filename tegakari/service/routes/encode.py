"""Route that encodes texts into active features."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from litestar import Request
from litestar.di import NamedDependency
from litestar.params import JSONBody

from tegakari.analyses.encode_query import EncodeQuery, encode_query
from tegakari.schemas.api import Page
from tegakari.schemas.inference import EncodedText, EncodeRequest
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


@run_models("/encode", "encodeTexts", "Active features of texts")
async def encode_texts(
    run: OpenRun,
    model_queue: NamedDependency[ModelQueue],
    cost_limits: NamedDependency[CostLimits],
    data: JSONBody[EncodeRequest],
    request: Request[Any, Any, Any],
) -> Page[EncodedText]:
    """Strongest features of each text, pooled over its positions or position by position."""
    tokens = cost_limits.tokens_of_texts(run, data.texts)
    query = encode_query(run, data)
    work = model_queue.submit(run, _ENCODE, query, client=client_of(request.scope), tokens=tokens)
    return Page(await while_connected(request, work))


def _encode(
    load_models: ModelLoader, queries: Sequence[EncodeQuery], progress: Progress
) -> Sequence[list[EncodedText]]:
    from tegakari.analyses.inference import encode_texts

    return encode_texts(load_models(), queries, progress)


_ENCODE = BatchWork(_encode, key=lambda _: "encode")

RUN_HANDLERS = (encode_texts,)
