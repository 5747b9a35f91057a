"""Path and query parameters, each described once; unknown ones are refused."""

from __future__ import annotations

from functools import lru_cache
from typing import Annotated, Any, Literal, get_args, get_origin
from urllib.parse import parse_qsl

from litestar import Request
from litestar.handlers.base import BaseRouteHandler
from litestar.params import PathParameter, QueryParameter
from msgspec import Struct

from tegakari.schemas import filters
from tegakari.schemas.config import POOLINGS, Pooling
from tegakari.schemas.errors import QueryError
from tegakari.schemas.explanations import LANGUAGE_PATTERN, MAX_EXPLANATION, MAX_MODEL, METHODS, Method
from tegakari.schemas.notes import MAX_AUTHOR, MAX_TAG, MAX_TEXT
from tegakari.service.http.negotiation import FORMATS, LIST_PARAMETERS, row_type
from tegakari.store import Run
from tegakari.store.blocks.files import TOP_DOCUMENTS, TOP_FEATURES
from tegakari.store.queries.documents import DETAIL_FEATURES
from tegakari.store.queries.parameters import MAX_PAGE

FEATURE_PATH = "/layers/{layer:str}/features/{feature:str}"
"""Path of a feature below its run."""

OpenRun = Annotated[Run, PathParameter(description="name of the run", schema_extra={"type": "string"})]
"""The run that the path names, opened by `RunOfRequest`."""
LabelName = Annotated[
    str,
    PathParameter(
        description="label, percent-encoded: `/` is `%2F`; as value of a label `.` or `..`: `%2E` or `%2E%2E`"
    ),
]
DocumentId = Annotated[str, PathParameter(description="id of the document in the corpus, encoded like a label")]
LayerNumber = Annotated[int, PathParameter(description="layer, from 0", ge=0)]
FeatureNumber = Annotated[int, PathParameter(description="feature of the layer's SAE, from 0", ge=0)]


def optional(description: str, name: str | None = None, **schema: Any) -> QueryParameter:
    """A parameter that can be omitted. Null cannot be sent, so the documented type does not include it.

    Args:
        description: for the OpenAPI document.
        name: in the query; default: that of the handler's parameter.
        schema: keys of the parameter's JSON schema.
    """
    return QueryParameter(name=name, description=description, schema_extra={"one_of": None, **schema})


LayerFilter = Annotated[int | None, optional("only this layer", type="integer", minimum=0)]
PoolingName = Annotated[
    Pooling | None, optional("pooling of the statistics; default: the run's", type="string", enum=list(POOLINGS))
]
MinimumD = Annotated[float | None, optional("only features with at least this Cohen's d", type="number")]
VarietyFilter = Annotated[
    str | None,
    optional(
        "label variety: `specific` (1), `shared` (2 or more), or exactly this number; in the features of a label, that "
        "label is one of them",
        type="string",
        pattern="^(specific|shared|[0-9]{1,6})$",
    ),
]
PageSize = Annotated[int, QueryParameter(description="items per page", ge=1, le=MAX_PAGE)]
Cursor = Annotated[str | None, optional("`next` of the previous page", type="string")]
TokenCount = Annotated[
    int | None,
    optional("number of strongest positions; default: 20, or all if the run keeps fewer", type="integer", minimum=0),
]
DocumentCount = Annotated[int, QueryParameter(description="number of strongest documents", ge=1, le=TOP_DOCUMENTS)]
FeatureCount = Annotated[
    int,
    QueryParameter(
        description=f"number of strongest features per layer; default: {DETAIL_FEATURES}", ge=0, le=TOP_FEATURES
    ),
]
QuantileFilter = Annotated[
    int | None,
    optional(
        "0: only the strongest positions; 1 (weakest) to 10: only this tenth of the sample",
        type="integer",
        minimum=0,
        maximum=10,
    ),
]
TokenFilter = Annotated[
    str | None,
    optional("only features with this top token, ignoring case and surrounding spaces", type="string"),
]
MinimumDensity = Annotated[
    float | None, optional("only features active on at least this share of positions", type="number")
]
MaximumDensity = Annotated[
    float | None, optional("only features active on at most this share of positions", type="number")
]
FeatureOrder = Annotated[
    filters.FeatureOrder,
    QueryParameter(description="`feature` = by layer and feature; else by that figure, largest first"),
]
EffectOrder = Annotated[
    filters.EffectOrder,
    QueryParameter(description="largest or smallest (most negative) effects first"),
]
WithOnset = Annotated[
    bool,
    QueryParameter(description="also give the tokens on which a feature sets in, and the tokens up to there by lift"),
]
LabelFilter = Annotated[str | None, optional("only documents with this label", type="string")]
PredictedFilter = Annotated[str | None, optional("only documents that the classifier gives this label", type="string")]
CorrectFilter = Annotated[
    bool | None,
    optional("only documents that the classifier gives their own label (false: another label)", type="boolean"),
]
SelectedAnalysis = Annotated[
    str | None,
    optional("id of a stored analysis; default: the one with the default settings", type="string"),
]
FeatureFilter = Annotated[int | None, optional("only features of this number", type="integer", minimum=0)]
TagFilter = Annotated[str | None, optional("only notes with this tag", type="string", maxLength=MAX_TAG)]
StarredFilter = Annotated[bool | None, optional("only notes with a star (false: without)", type="boolean")]
AuthorName = Annotated[
    str | None, optional("author of the note; default: the name of the API key", type="string", maxLength=MAX_AUTHOR)
]
AuthorFilter = Annotated[str | None, optional("only notes of this author", type="string", maxLength=MAX_AUTHOR)]
NoteWords = Annotated[
    str | None,
    optional(
        "only notes with all these words in text or tags, whatever their case and width",
        type="string",
        maxLength=MAX_TEXT,
    ),
]
MethodFilter = Annotated[
    Method | None,
    optional(
        "only explanations of this method: made from words, by a language model, by a person",
        type="string",
        enum=list(METHODS),
    ),
]
ExplanationAuthorFilter = Annotated[
    str | None,
    optional(
        "only explanations of this author: `tegakari`, the name of a language model, or a person",
        type="string",
        maxLength=MAX_MODEL,
    ),
]
ExplanationAuthorName = Annotated[
    str | None,
    optional("author of the explanation; default: the name of the API key", type="string", maxLength=MAX_MODEL),
]
LanguageFilter = Annotated[
    str | None, optional("only explanations in this language, as `ja` or `en`", type="string", pattern=LANGUAGE_PATTERN)
]
MinimumScore = Annotated[
    float | None,
    optional("only explanations whose detection has at least this balanced accuracy, mean over scores", type="number"),
]
ExplanationWords = Annotated[
    str | None,
    optional(
        "only explanations with all these words in their text, whatever their case and width",
        type="string",
        maxLength=MAX_EXPLANATION,
    ),
]
ExplanationIdName = Annotated[str, PathParameter(description="id of the explanation")]
FormatName = Annotated[
    str | None,
    optional("format of the rows; default: by `Accept`, else json", type="string", enum=["json", *FORMATS]),
]


BODY = "data"
"""Name that the body of a request has in handlers, as Litestar demands."""


def body_type(handler: BaseRouteHandler) -> type[Struct] | None:
    """Type of the body of a route's requests; None: they have none."""
    data = handler.parsed_fn_signature.parameters.get(BODY)
    return data.annotation if data else None


@lru_cache
def parameter_names(handler: BaseRouteHandler) -> tuple[str, ...]:
    """Names of the query parameters of a route."""
    names = [
        field.kwarg_definition.name or name
        for name, field in handler.parsed_fn_signature.parameters.items()
        if isinstance(field.kwarg_definition, QueryParameter)
    ]
    return (*names, *(LIST_PARAMETERS if row_type(handler) else ()))


def refuse_unknown_parameters(request: Request[Any, Any, Any]) -> None:
    """Refuse a query parameter that the route does not have, or that is repeated or empty.

    Raises:
        QueryError: with the parameter, and those of the route.
    """
    query = request.scope["query_string"]
    if not query:
        return
    names = parameter_names(request.route_handler)
    fix = f"known parameters: {', '.join(names)}" if names else "omit it: the route has no parameters"
    seen: set[str] = set()
    for name, value in parse_qsl(query.decode("ascii", "replace"), keep_blank_values=True):
        if name not in names:
            raise QueryError(f"unknown parameter {name!r}", field=name, fix=fix)
        if name in seen:
            raise QueryError("given more than once", field=name, fix="give it once")
        if not value:
            raise QueryError("given without a value", field=name, fix="give a value or omit it")
        seen.add(name)


def query_name(handler: BaseRouteHandler, name: str) -> str:
    """Name in the query of a handler's parameter, which can have another one there."""
    parameter = handler.parsed_fn_signature.parameters.get(name)
    definition = parameter.kwarg_definition if parameter else None
    return (isinstance(definition, QueryParameter) and definition.name) or name


def choices(handler: BaseRouteHandler, name: str) -> tuple[str, ...]:
    """Values of a parameter that takes one of several words; empty for others."""
    parameter = handler.parsed_fn_signature.parameters.get(name)
    annotations = (parameter.annotation, *get_args(parameter.annotation)) if parameter else ()
    return next((get_args(annotation) for annotation in annotations if get_origin(annotation) is Literal), ())


def bounds(handler: BaseRouteHandler, name: str) -> str:
    """The numbers that a parameter takes, as the fix of another one; empty for parameters without bounds."""
    parameter = handler.parsed_fn_signature.parameters.get(name)
    definition = parameter.kwarg_definition if parameter else None
    smallest, largest = getattr(definition, "ge", None), getattr(definition, "le", None)
    if smallest is None or largest is None:
        return "" if smallest is None else f"use {smallest} or more"
    return f"use a number from {smallest} to {largest}"
