"""Query parameters: each described once, and no others taken."""

from __future__ import annotations

from functools import lru_cache
from typing import Annotated, Any
from urllib.parse import parse_qsl

from litestar import Request
from litestar.handlers.base import BaseRouteHandler
from litestar.params import PathParameter, QueryParameter

from tegakari.schemas.config import POOLINGS
from tegakari.schemas.errors import QueryError
from tegakari.service.http.negotiation import LIST_PARAMETERS, row_type
from tegakari.store.blocks.files import TOP_DOCUMENTS, TOP_FEATURES
from tegakari.store.queries.documents import DETAIL_FEATURES
from tegakari.store.queries.features import Order
from tegakari.store.queries.parameters import MAX_PAGE

RunName = Annotated[str, PathParameter(description="name of the run")]
LabelName = Annotated[str, PathParameter(description="label, percent-encoded: `/` is `%2F`")]
DocumentId = Annotated[str, PathParameter(description="id of the document in the corpus, percent-encoded")]
LayerNumber = Annotated[int, PathParameter(description="layer, from 0", ge=0)]
FeatureNumber = Annotated[int, PathParameter(description="feature of the layer's SAE, from 0", ge=0)]


def optional(description: str, name: str | None = None, **schema: Any) -> QueryParameter:
    """A parameter that may be left out; there is no way to send null, so the documented type leaves it out too."""
    return QueryParameter(name=name, description=description, schema_extra={"one_of": None, **schema})


OnlyLayer = Annotated[int | None, optional("only this layer", type="integer", minimum=0)]
PoolingName = Annotated[
    str | None, optional("pooling of the statistics; default: the run's", type="string", enum=list(POOLINGS))
]
LeastD = Annotated[float | None, optional("only features with at least this Cohen's d", type="number")]
VarietyName = Annotated[
    str | None,
    optional(
        "label variety: `specific` (1), `shared` (2 or more), or exactly this number",
        type="string",
        pattern="^(specific|shared|[0-9]{1,6})$",
    ),
]
PageSize = Annotated[int, QueryParameter(description="items of a page", ge=1, le=MAX_PAGE)]
Cursor = Annotated[str | None, optional("`next` of the page before", type="string")]
TokenCount = Annotated[
    int | None, optional("strongest positions shown; default: 20, or all if fewer are kept", type="integer", minimum=0)
]
DocumentCount = Annotated[int, QueryParameter(description="strongest documents shown", ge=1, le=TOP_DOCUMENTS)]
FeatureCount = Annotated[
    int,
    QueryParameter(
        description=f"strongest features shown of each layer; default: {DETAIL_FEATURES}", ge=0, le=TOP_FEATURES
    ),
]
OnlyToken = Annotated[
    str | None,
    optional("only features shown with this token, whatever its case and the spaces around it", type="string"),
]
LeastDensity = Annotated[
    float | None, optional("only features active on at least this share of positions", type="number")
]
LargestDensity = Annotated[
    float | None, optional("only features active on at most this share of positions", type="number")
]
FeatureOrder = Annotated[
    Order, QueryParameter(description="`feature` = by layer and feature; else by that figure, largest first")
]
OnlyLabel = Annotated[str | None, optional("only documents with this label", type="string")]
OnlyPredicted = Annotated[str | None, optional("only documents that the classifier gives this label", type="string")]
OnlyCorrect = Annotated[
    bool | None, optional("only documents that the classifier gives their own label (false: another)", type="boolean")
]


@lru_cache
def known_parameters(handler: BaseRouteHandler) -> tuple[str, ...]:
    """Names of the query parameters that a route takes."""
    own = [
        field.kwarg_definition.name or name
        for name, field in handler.parsed_fn_signature.parameters.items()
        if isinstance(field.kwarg_definition, QueryParameter)
    ]
    return (*own, *(LIST_PARAMETERS if row_type(handler) else ()))


def refuse_unknown_parameters(request: Request[Any, Any, Any]) -> None:
    """Refuse a parameter that the route does not have, has twice, or has without a value.

    Raises:
        QueryError: naming it, and those that there are.
    """
    asked = request.scope["query_string"]
    if not asked:
        return
    known = known_parameters(request.route_handler)
    fix = f"known parameters: {', '.join(known)}" if known else "there are no parameters here"
    seen: set[str] = set()
    for name, value in parse_qsl(asked.decode("ascii", "replace"), keep_blank_values=True):
        if name not in known:
            raise QueryError(f"unknown parameter {name!r}", field=name, fix=fix)
        if name in seen:
            raise QueryError("given more than once", field=name, fix="give it once")
        if not value:
            raise QueryError("given without a value", field=name, fix="give a value or leave it out")
        seen.add(name)
