"""The document that Litestar makes of the routes, completed: components, formats, tags, keys, examples, links."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterable, Iterator
from typing import Any

from litestar.handlers import HTTPRouteHandler

from tegakari.service.http.negotiation import FORMATS, JSON
from tegakari.service.openapi.components import Schema, components, reference, renamed
from tegakari.service.openapi.examples import BODIES, PARAMETERS
from tegakari.service.openapi.links import LINKS

SECURITY = [{"bearer": []}, {"header": []}, {}]
"""Of all operations but the public ones: either way to send a key, or none where the service has no keys."""

SECURITY_SCHEMES = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "an API key, if the service has keys"},
    "header": {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": "the same in a header of its own"},
}

Operation = dict[str, Any]


def complete(document: dict[str, Any], handlers: Iterable[HTTPRouteHandler]) -> dict[str, Any]:
    """The document with everything that Litestar does not know of the routes; `document` is changed."""
    by_operation = {handler.operation_id: handler for handler in handlers if handler.operation_id}
    schemas = components(by_operation.values())
    document["components"] = {"schemas": schemas, "securitySchemes": SECURITY_SCHEMES}
    document["security"] = SECURITY
    tags: dict[str, str] = {}
    for operation in _operations(document):
        handler = by_operation[operation["operationId"]]
        tag, description = _tag(handler)
        tags[tag] = description
        operation["tags"] = [tag]
        if "public" in handler.opt:
            operation["security"] = []
        for parameter in operation.get("parameters", []):
            _complete_parameter(parameter)
        if body := BODIES.get(operation["operationId"]):
            operation["requestBody"]["content"][JSON]["example"] = body
        for response in operation["responses"].values():
            for content in response.get("content", {}).values():
                content["schema"] = renamed(content["schema"])
        _add_formats(operation, schemas)
        if links := LINKS.get(operation["operationId"]):
            operation["responses"]["200"]["links"] = {
                name: {"operationId": name, "parameters": parameters} for name, parameters in links.items()
            }
    document["tags"] = [{"name": name, "description": tags[name]} for name in sorted(tags)]
    document["components"]["schemas"] = dict(sorted(schemas.items()))
    return document


def _operations(document: dict[str, Any]) -> Iterator[Operation]:
    for methods in document["paths"].values():
        yield from methods.values()


def _tag(handler: HTTPRouteHandler) -> tuple[str, str]:
    """Name and description of the group of an operation: the module of its handler, and the module's docstring."""
    module = sys.modules[inspect.unwrap(getattr(handler.fn, "func", handler.fn)).__module__]
    summary = inspect.cleandoc(module.__doc__ or "").partition("\n\n")[0]
    return module.__name__.rpartition(".")[2].replace("_", "-"), summary.replace("\n", " ")


def _complete_parameter(parameter: dict[str, Any]) -> None:
    parameter["schema"] = schema = renamed(parameter["schema"])
    schema.pop("description", None)  # that of the parameter
    if parameter.get("required") and parameter["name"] in PARAMETERS:
        parameter["example"] = PARAMETERS[parameter["name"]]


def _add_formats(operation: Operation, schemas: dict[str, Schema]) -> None:
    """Add the parameters and the media types of a list; of rows of SQL the media types alone."""
    content = operation["responses"].get("200", {}).get("content", {})
    name = content.get(JSON, {}).get("schema", {}).get("$ref", "").rpartition("/")[2]
    if name.endswith("Page"):
        row = name.removesuffix("Page")
        columns = schemas[row]["properties"]
        schemas[f"{row}Subset"] = {
            "type": "object",
            "description": f"{row} with the fields that the parameter `fields` selects.",
            "properties": columns,
            "additionalProperties": False,
        }
        schemas[f"{row}SubsetPage"] = {
            **schemas[name],
            "description": "A page of a list with the fields that the parameter `fields` selects.",
            "properties": {
                **schemas[name]["properties"],
                "items": {"type": "array", "items": reference(f"{row}Subset")},
            },
        }
        content[JSON]["schema"] = {"anyOf": [reference(name), reference(f"{row}SubsetPage")]}
        column = f"({'|'.join(columns)})"
        operation.setdefault("parameters", []).extend(
            [
                _query("format", "format of the list; default: by `Accept`", reference("ListFormat")),
                _query(
                    "fields",
                    "only these fields, separated by commas",
                    {"type": "string", "pattern": f"^{column}(,{column})*$"},
                ),
            ]
        )
    elif name != "SqlResult":
        return
    for format_ in FORMATS.values():
        content[format_.media_type] = {"schema": {"type": "string"}}


def _query(name: str, description: str, schema: Schema) -> dict[str, Any]:
    return {"name": name, "in": "query", "description": description, "schema": schema}
