"""Schemas of the structs that routes receive and return: those of msgspec, with the docstrings of the fields."""

from __future__ import annotations

import ast
import inspect
import sys
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from itertools import pairwise
from typing import Any, NamedTuple, get_args, get_origin

import msgspec
from litestar.handlers import HTTPRouteHandler

from tegakari.schemas.api import Page
from tegakari.schemas.config import POOLINGS
from tegakari.service.http.negotiation import FORMATS
from tegakari.service.http.parameters import body_type

Schema = dict[str, Any]

PREFIX = "#/components/schemas/"


class Enumeration(NamedTuple):
    """Words of which a parameter or a field has one."""

    enum: list[str]
    description: str


ENUMERATIONS = {
    "Pooling": Enumeration(sorted(POOLINGS), "Pooling of activations over the positions of a document."),
    "ListFormat": Enumeration(["json", *FORMATS], "Format of a list, or of the rows of a query."),
}
"""Enumerations that several operations share: one name each, else a generator names one per operation."""


def reference(name: str) -> Schema:
    """Reference to a component."""
    return {"$ref": PREFIX + name}


def component_name(name: str) -> str:
    """Name of a component in the document, from that of msgspec or Litestar: `Page_LabelRow_` is `LabelRowPage`."""
    return f"{name[5:-1].rpartition('.')[2]}Page" if name.startswith("Page_") else name


def components(handlers: Iterable[HTTPRouteHandler]) -> dict[str, Schema]:
    """Schemas of all structs of the routes, by name.

    Structs of requests keep their optional fields. A response has every field of its struct, so that all are required
    there: generated types do not have to treat a field that is null as one that can be missing.
    """
    bodies = {body for handler in handlers if (body := body_type(handler))}
    results = {result for handler in handlers for result in _result_types(handler)}
    _, schemas = msgspec.json.schema_components([*bodies, *results], ref_template=PREFIX + "{name}")
    schemas = {component_name(name): renamed(schema) for name, schema in schemas.items()}
    schemas |= {name: {"type": "string", **enumeration._asdict()} for name, enumeration in ENUMERATIONS.items()}
    for struct in _structs(msgspec.Struct):
        # Another struct of the package can have the name of one of the API's.
        schema = schemas.get(struct.__name__)
        if schema and schema.get("properties", {}).keys() == set(struct.__struct_encode_fields__):
            _describe_fields(schema, struct)
    requested = _closure({body.__name__ for body in bodies}, schemas)
    for name, schema in schemas.items():
        schema.pop("title", None)
        if name in requested:
            _move_defaults(schema)
        elif "properties" in schema:
            schema["required"] = list(schema["properties"])
            for field in schema["properties"].values():
                field.pop("default", None)
    return schemas


def _result_types(handler: HTTPRouteHandler) -> Iterator[Any]:
    declared = [spec.data_container for spec in (handler.responses or {}).values()]
    for annotation in (handler.parsed_fn_signature.return_type.annotation, *declared):
        if get_origin(annotation) is Page or (
            inspect.isclass(annotation) and issubclass(annotation, msgspec.Struct) and not get_args(annotation)
        ):
            yield annotation


def _structs(base: type[msgspec.Struct]) -> Iterator[type[msgspec.Struct]]:
    for struct in base.__subclasses__():
        if struct.__module__.startswith("tegakari."):
            yield struct
        yield from _structs(struct)


def _describe_fields(schema: Schema, struct: type[msgspec.Struct]) -> None:
    """Add the docstrings below the fields of a struct, the inherited ones included."""
    schema["description"] = inspect.getdoc(struct)
    for kind in reversed(struct.__mro__[:-3]):  # the last are msgspec.Struct, its own base and object
        for name, text in _docstrings(kind.__module__)[kind.__name__].items():
            schema["properties"][name]["description"] = text


@cache
def _docstrings(module: str) -> dict[str, dict[str, str]]:
    """Docstrings below the fields of the classes of a module: class -> field -> text."""
    docstrings: dict[str, dict[str, str]] = {}
    for definition in ast.parse(inspect.getsource(sys.modules[module])).body:
        if isinstance(definition, ast.ClassDef):
            fields = docstrings[definition.name] = {}
            for field, docstring in pairwise(definition.body):
                match field, docstring:
                    case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                        fields[name] = text
    return docstrings


def _move_defaults(schema: Schema) -> None:
    """Move defaults of a request into the descriptions: generators take a field with a default as always present."""
    for field in schema.get("properties", {}).values():
        default = field.pop("default", None)
        if default is not None and default not in ({}, []):
            text = field.get("description", "")
            field["description"] = f"{text}{'; ' if text else ''}default: {msgspec.json.encode(default).decode()}"


def _closure(names: set[str], schemas: Mapping[str, Schema]) -> set[str]:
    """Names of components that components of these names refer to, themselves included."""
    closure: set[str] = set()
    pending = list(names)
    while pending:
        name = pending.pop()
        if name not in closure:
            closure.add(name)
            pending.extend(_referenced(schemas[name]))
    return closure


def _referenced(schema: Any) -> Iterator[str]:
    match schema:
        case {"$ref": str(address)}:
            yield address.removeprefix(PREFIX)
        case dict():
            for value in schema.values():
                yield from _referenced(value)
        case list():
            for value in schema:
                yield from _referenced(value)


def renamed(schema: Any) -> Any:
    """A schema with the document's names of components, and references to shared enumerations."""
    match schema:
        case {"$ref": str(address), **rest}:
            return {**rest, **reference(component_name(address.removeprefix(PREFIX)))}
        case {"enum": list(values), **rest}:
            for name, shared in ENUMERATIONS.items():
                if sorted(values) == sorted(shared.enum):
                    return {**{key: value for key, value in rest.items() if key != "type"}, **reference(name)}
            return {"type": "string", **schema}
        case dict():
            return {key: renamed(value) for key, value in schema.items()}
        case list():
            return [renamed(value) for value in schema]
    return schema
