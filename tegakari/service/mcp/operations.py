"""Operations of the API as the OpenAPI document describes them: input schemas of tools, and arguments as requests."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from tegakari.schemas.errors import QueryError
from tegakari.schemas.segments import segment_of

Schema = dict[str, Any]

HIDDEN = ("format", "fields")
"""Parameters of lists that no tool has: tools return JSON, and leave out fields by themselves."""

_ANNOTATIONS = ("example", "examples", "deprecated", "allowEmptyValue", "allowReserved", "title")
"""Keys of schemas that tell an agent nothing, and take room."""


class ApiRequest(NamedTuple):
    """A request to the API."""

    method: str
    path: str
    query: dict[str, str]
    body: dict[str, Any] | None


class Operation:
    """One operation of the API."""

    def __init__(
        self, method: str, path: str, description: Mapping[str, Any], components: Mapping[str, Schema]
    ) -> None:
        """Read the parameters and the body.

        Args:
            method: HTTP method.
            path: with the names of its parameters in braces.
            description: the operation in the document.
            components: schemas of the document by name.
        """
        self.method = method.upper()
        self._path = path
        parameters = [parameter for parameter in description.get("parameters", []) if parameter["name"] not in HIDDEN]
        self._in_path = [parameter["name"] for parameter in parameters if parameter["in"] == "path"]
        self._in_query = [parameter["name"] for parameter in parameters if parameter["in"] == "query"]
        self._has_body = "requestBody" in description
        body: Schema = {}
        if self._has_body:
            body = plain(description["requestBody"]["content"]["application/json"]["schema"], components)
        self._properties: dict[str, Schema] = {
            parameter["name"]: {**plain(parameter["schema"], components), "description": parameter["description"]}
            for parameter in parameters
        } | body.get("properties", {})
        self._required = [parameter["name"] for parameter in parameters if parameter.get("required")]
        self._required += body.get("required", [])

    def input_schema(self, defaults: Mapping[str, Any], descriptions: Mapping[str, str]) -> Schema:
        """The JSON schema of the arguments.

        Args:
            defaults: of arguments, in place of the API's.
            descriptions: of arguments of the path, in place of the API's.
        """
        properties: dict[str, Schema] = {}
        for name, schema in self._properties.items():
            properties[name] = dict(schema)
            if name in self._in_path:
                properties[name]["description"] = descriptions.get(name, schema["description"])
            if name in defaults:
                properties[name]["default"] = defaults[name]
                properties[name]["description"] = schema["description"].partition("; default:")[0]
        return {
            "type": "object",
            "properties": properties,
            "required": self._required,
            "additionalProperties": False,
        }

    def request(self, arguments: Mapping[str, Any]) -> ApiRequest:
        """The request of a call. The API checks the values.

        Args:
            arguments: by name; null is as good as none.

        Raises:
            QueryError: an argument is unknown; or one of the path is missing or empty, so that the path would be that
                of another operation.
        """
        rest = {name: value for name, value in arguments.items() if value is not None}
        if unknown := sorted(rest.keys() - self._properties.keys()):
            fix = f"arguments: {', '.join(self._properties)}" if self._properties else "omit it: there are no arguments"
            raise QueryError(f"unknown argument {unknown[0]!r}", field=unknown[0], fix=fix)
        path = self._path
        for name in self._in_path:
            value = str(rest.pop(name, ""))
            if not value:
                raise QueryError("the argument is missing or empty", field=name, fix=f"give `{name}`")
            path = path.replace("{" + name + "}", segment_of(value))
        query = {name: _text(rest.pop(name)) for name in self._in_query if name in rest}
        return ApiRequest(self.method, path, query, rest if self._has_body else None)


def operations_of(document: Mapping[str, Any]) -> dict[str, Operation]:
    """The operations of an OpenAPI document by their ids."""
    components = document["components"]["schemas"]
    return {
        description["operationId"]: Operation(method, path, description, components)
        for path, methods in document["paths"].items()
        for method, description in methods.items()
    }


def plain(schema: Any, components: Mapping[str, Schema]) -> Any:
    """A schema without references, without null as an alternative to a value, and without annotations."""
    match schema:
        case {"$ref": str(address), **rest}:
            return plain({**components[address.rpartition("/")[2]], **rest}, components)
        case {"anyOf": [alternative, {"type": "null"}], **rest}:
            return plain({**alternative, **rest}, components)
        case dict():
            # A property may have the name of an annotation.
            return {
                key: {name: plain(field, components) for name, field in value.items()}
                if key == "properties"
                else _whole(plain(value, components))
                for key, value in schema.items()
                if key not in _ANNOTATIONS
            }
        case list():
            return [plain(value, components) for value in schema]
    return schema


def _whole(value: Any) -> Any:
    """A bound as it is usually written: 1000 for 1000.0."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
