"""The OpenAPI document at /schema/openapi.json, and its viewer at /schema, from files of this package alone."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
from litestar import Request, Response, Router
from litestar.exceptions import NotFoundException
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin, OpenAPIRenderPlugin
from litestar.static_files import create_static_files_router

from tegakari.service.http.headers import PAGE_POLICY
from tegakari.service.http.negotiation import FORMATS, JSON
from tegakari.service.http.operations import PUBLIC
from tegakari.version import __version__

STATIC = Path(__file__).parents[1] / "static"


class ViewerPage(OpenAPIRenderPlugin):
    """RapiDoc, configured to load nothing from other servers."""

    def __init__(self) -> None:
        super().__init__(path="/")
        self._page = (STATIC / "viewer.html").read_bytes()

    def render(self, request: Request[Any, Any, Any], openapi_schema: dict[str, Any]) -> bytes:
        return self._page

    def receive_router(self, router: Router) -> None:
        router.register(create_static_files_router(path="/static", directories=[STATIC], opt=PUBLIC))


class DescribedJson(JsonRenderPlugin):
    """The document with the docstrings of structs and the formats of lists; built with the first request."""

    _document: bytes | None = None

    def render(self, request: Request[Any, Any, Any], openapi_schema: dict[str, Any]) -> bytes:
        if self._document is None:
            schemas = openapi_schema["components"]["schemas"]
            for struct in _structs(msgspec.Struct):
                if struct.__module__.startswith("tegakari.") and struct.__name__ in schemas:
                    schema = schemas[struct.__name__]
                    # Another struct of the package can have the name of one of the API's.
                    if set(schema.get("properties", ())) == set(struct.__struct_encode_fields__):
                        _describe(schema, struct)
            for methods in openapi_schema["paths"].values():
                for operation in methods.values():
                    _describe_list(operation, schemas)
                    _describe_links(operation)
            self._document = super().render(request, openapi_schema)
        return self._document


def _structs(base: type[msgspec.Struct]) -> Iterator[type[msgspec.Struct]]:
    for struct in base.__subclasses__():
        yield struct
        yield from _structs(struct)


_ITEM = "$response.body#/items/0/"
_SAME_RUN = {"run": "$request.path.run"}
_FEATURE = {**_SAME_RUN, "layer": f"{_ITEM}layer", "feature": f"{_ITEM}feature"}
_LABEL = {**_SAME_RUN, "label": f"{_ITEM}label"}
_DOCUMENT = {**_SAME_RUN, "document": f"{_ITEM}document"}

LINKS: dict[str, dict[str, dict[str, str]]] = {
    "listRuns": {
        name: {"run": f"{_ITEM}run"}
        for name in ("getRun", "listLabels", "listFeatures", "listDocuments", "getSpecificity")
    },
    "listLabels": {"getLabel": _LABEL, "listLabelFeatures": _LABEL},
    "listLabelFeatures": {"getFeature": _FEATURE, "listFeatureTokens": _FEATURE, "listFeatureDocuments": _FEATURE},
    "listFeatures": {"getFeature": _FEATURE, "listFeatureLabels": _FEATURE, "getFeatureHistogram": _FEATURE},
    "listFeatureLabels": {"getLabel": _LABEL},
    "listFeatureDocuments": {"getDocument": _DOCUMENT},
    "listDocuments": {"getDocument": _DOCUMENT, "listDocumentFeatures": _DOCUMENT},
    "listDocumentFeatures": {"getFeature": _FEATURE},
}
"""OpenAPI links from the first item of a list: operation -> linked operation -> its parameters."""


def _describe_links(operation: dict[str, Any]) -> None:
    if links := LINKS.get(operation["operationId"]):
        operation["responses"]["200"]["links"] = {
            name: {"operationId": name, "parameters": parameters} for name, parameters in links.items()
        }


def _describe_list(operation: dict[str, Any], schemas: dict[str, Any]) -> None:
    """Add the parameters and media types of lists; see `negotiation`."""
    content = operation["responses"].get("200", {}).get("content", {}).get(JSON)
    name = content["schema"].get("$ref", "").rpartition("/")[2] if content else ""
    if not name.startswith("Page_"):
        return
    row = schemas[name]["properties"]["items"]["items"]
    columns = schemas[row["$ref"].rpartition("/")[2]]["properties"]
    column = f"({'|'.join(columns)})"
    operation.setdefault("parameters", []).extend(
        [
            _query("format", "format of the list; default: by `Accept`", enum=["json", *FORMATS]),
            _query("fields", "only these fields, separated by commas", pattern=f"^{column}(,{column})*$"),
        ]
    )
    selected_row = {"type": "object", "properties": columns, "additionalProperties": False}
    selected_list = {
        "type": "object",
        "description": "with `fields`",
        "properties": {**schemas[name]["properties"], "items": {"type": "array", "items": selected_row}},
        "required": ["items"],
    }
    content["schema"] = {"anyOf": [content["schema"], selected_list]}
    for format_ in FORMATS.values():
        operation["responses"]["200"]["content"][format_.media_type] = {"schema": {"type": "string"}}


def _query(name: str, description: str, **schema: Any) -> dict[str, Any]:
    return {"name": name, "in": "query", "description": description, "schema": {"type": "string", **schema}}


def _describe(schema: dict[str, Any], struct: type[msgspec.Struct]) -> None:
    """Add the docstring of a struct, and those below its fields, to its schema."""
    schema["description"] = inspect.getdoc(struct)
    for kind in reversed(struct.__mro__[:-3]):  # the last are msgspec.Struct, its own base and object
        (definition,) = ast.parse(textwrap.dedent(inspect.getsource(kind))).body
        for field, docstring in pairwise(getattr(definition, "body", [])):
            match field, docstring:
                case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                    schema["properties"][name]["description"] = text


async def _finish_page(response: Response[Any]) -> Response[Any]:
    """Add the policy of pages. Litestar's 404 below /schema is HTML; raised, it becomes a problem document."""
    if response.status_code == 404:
        raise NotFoundException
    response.headers["Content-Security-Policy"] = PAGE_POLICY
    return response


def openapi_config() -> OpenAPIConfig:
    """The configuration of /schema and /schema/openapi.json."""
    return OpenAPIConfig(
        title="tegakari",
        version=__version__,
        summary="Which features carry a label, and how specific they are.",
        use_handler_docstrings=True,
        render_plugins=[DescribedJson(), ViewerPage()],
        openapi_router=Router(
            "/schema", route_handlers=[], include_in_schema=False, after_request=_finish_page, opt=PUBLIC
        ),
    )
