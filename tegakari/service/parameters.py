"""Query parameters: each described once, and no others taken."""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import parse_qsl

from litestar import Request
from litestar.params import PathParameter, QueryParameter

from tegakari.schemas.config import POOLINGS
from tegakari.store.queries import MAX_PAGE, QueryError

RunName = Annotated[str, PathParameter(description="name of the run")]
LabelName = Annotated[str, PathParameter(description="label, percent-encoded: `/` is `%2F`")]
LayerNumber = Annotated[int, PathParameter(description="layer, from 0", ge=0)]
FeatureNumber = Annotated[int, PathParameter(description="feature of the layer's SAE, from 0", ge=0)]


def _optional(description: str, **schema: Any) -> QueryParameter:
    """A parameter that may be left out; there is no way to send null, so the documented type leaves it out too."""
    return QueryParameter(description=description, schema_extra={"one_of": None, **schema})


OnlyLayer = Annotated[int | None, _optional("only features of this layer", type="integer", minimum=0)]
PoolingName = Annotated[
    str | None, _optional("pooling of the statistics; default: the run's", type="string", enum=list(POOLINGS))
]
LeastD = Annotated[float | None, _optional("only features with at least this Cohen's d", type="number")]
VarietyName = Annotated[
    str | None,
    _optional(
        "label variety: `specific` (1), `shared` (2 or more), or exactly this number",
        type="string",
        pattern="^(specific|shared|[0-9]{1,6})$",
    ),
]
PageSize = Annotated[int, QueryParameter(description="items of a page", ge=1, le=MAX_PAGE)]
Cursor = Annotated[str | None, _optional("`next` of the page before", type="string")]
TokenCount = Annotated[
    int | None, _optional("strongest positions shown; default: 20, or all if fewer are kept", type="integer", minimum=0)
]


async def refuse_unknown_parameters(request: Request[Any, Any, Any]) -> None:
    """Refuse a parameter that the route does not have, has twice, or has without a value.

    Raises:
        QueryError: naming it, and those that there are.
    """
    known = [
        name
        for name, field in request.route_handler.parsed_fn_signature.parameters.items()
        if isinstance(field.kwarg_definition, QueryParameter)
    ]
    fix = f"known parameters: {', '.join(known)}" if known else "there are no parameters here"
    seen: set[str] = set()
    for name, value in parse_qsl(request.scope["query_string"].decode("ascii", "replace"), keep_blank_values=True):
        if name not in known:
            raise QueryError(f"unknown parameter {name!r}", field=name, fix=fix)
        if name in seen:
            raise QueryError("given more than once", field=name, fix="give it once")
        if not value:
            raise QueryError("given without a value", field=name, fix="give a value or leave it out")
        seen.add(name)
