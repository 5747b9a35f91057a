"""The OpenAPI document and a page that shows it, from files of this package alone."""

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

from tegakari.service.http.negotiation import FORMATS, JSON
from tegakari.version import __version__

PAGE_POLICY = (
    "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; connect-src 'self'; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)
"""For pages of this package: nothing from elsewhere, no script that is not a file."""

STATIC = Path(__file__).parents[1] / "static"


class ReferencePage(OpenAPIRenderPlugin):
    """RapiDoc, told to fetch nothing from elsewhere."""

    def __init__(self) -> None:
        super().__init__(path="/")
        self._page = (STATIC / "reference.html").read_bytes()

    def render(self, request: Request[Any, Any, Any], openapi_schema: dict[str, Any]) -> bytes:
        return self._page

    def receive_router(self, router: Router) -> None:
        router.register(create_static_files_router(path="/static", directories=[STATIC]))


class DescribedJson(JsonRenderPlugin):
    """The document with what the code says about messages, and with the forms of lists; made when first asked for."""

    _document: bytes | None = None

    def render(self, request: Request[Any, Any, Any], openapi_schema: dict[str, Any]) -> bytes:
        if self._document is None:
            schemas = openapi_schema["components"]["schemas"]
            for struct in _structs(msgspec.Struct):
                if struct.__module__.startswith("tegakari.") and struct.__name__ in schemas:
                    schema = schemas[struct.__name__]
                    # Another struct of the program may have the name of one of the API's.
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
"""Where the first item of a list leads: operation -> operation that follows -> its parameters."""


def _describe_links(operation: dict[str, Any]) -> None:
    if following := LINKS.get(operation["operationId"]):
        operation["responses"]["200"]["links"] = {
            name: {"operationId": name, "parameters": parameters} for name, parameters in following.items()
        }


def _describe_list(operation: dict[str, Any], schemas: dict[str, Any]) -> None:
    """Add the parameters and media types that every list has; see `formats`."""
    good = operation["responses"].get("200", {}).get("content", {}).get(JSON)
    name = good["schema"].get("$ref", "").rpartition("/")[2] if good else ""
    if not name.startswith("Page_"):
        return
    row = schemas[name]["properties"]["items"]["items"]
    columns = schemas[row["$ref"].rpartition("/")[2]]["properties"]
    one = f"({'|'.join(columns)})"
    operation.setdefault("parameters", []).extend(
        [
            _query("format", "form of the list; default: what `Accept` asks for", enum=["json", *FORMATS]),
            _query("fields", "only these fields, separated by commas", pattern=f"^{one}(,{one})*$"),
        ]
    )
    some = {"type": "object", "properties": columns, "additionalProperties": False}
    selected = {
        "type": "object",
        "description": "with `fields`",
        "properties": {**schemas[name]["properties"], "items": {"type": "array", "items": some}},
        "required": ["items"],
    }
    good["schema"] = {"anyOf": [good["schema"], selected]}
    content = operation["responses"]["200"]["content"]
    for form in FORMATS.values():
        content[form.media_type] = {"schema": {"type": "string"}}


def _query(name: str, description: str, **schema: Any) -> dict[str, Any]:
    return {"name": name, "in": "query", "description": description, "schema": {"type": "string", **schema}}


def _describe(schema: dict[str, Any], struct: type[msgspec.Struct]) -> None:
    """Add the docstrings of a struct and of its fields, which stand below them, to its schema."""
    schema["description"] = inspect.getdoc(struct)
    for kind in reversed(struct.__mro__[:-3]):  # the last are msgspec.Struct, its own base and object
        (definition,) = ast.parse(textwrap.dedent(inspect.getsource(kind))).body
        for field, below in pairwise(getattr(definition, "body", [])):
            match field, below:
                case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                    schema["properties"][name]["description"] = text


async def _refuse_what_is_not_there(response: Response[Any]) -> Response[Any]:
    """Litestar answers an unknown page below /schema in HTML; here every failure is a problem."""
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
        render_plugins=[DescribedJson(), ReferencePage()],
        openapi_router=Router(
            "/schema", route_handlers=[], include_in_schema=False, after_request=_refuse_what_is_not_there
        ),
    )
