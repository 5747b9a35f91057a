"""Requests and responses as data, shared by both clients."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, Generic, NamedTuple, TypeVar

import httpx
import msgspec

from tegakari.client.errors import ApiError
from tegakari.schemas.decoding import decode_json
from tegakari.schemas.errors import QueryError
from tegakari.schemas.segments import segment_of
from tegakari.version import __version__

T = TypeVar("T")

KEY_VARIABLE = "TEGAKARI_KEY"
ARROW = "application/vnd.apache.arrow.stream"

EVENT_DATA = "data: "
"""Begins a line of Server-Sent Events that holds an event's data."""

RETRIED = (429, 503)
"""Temporary statuses. Requests that change something, as a job or a note, can be repeated: a retry is safe."""


class Call(NamedTuple, Generic[T]):
    """One request, and the type of its response."""

    method: str
    path: str
    response_type: type[T]
    parameters: Mapping[str, Any] = {}
    body: msgspec.Struct | None = None

    def request(self, **parameters: Any) -> dict[str, Any]:
        """Arguments of httpx's `request`; parameters that are None are left out."""
        merged = {**self.parameters, **parameters}
        query = {name: _text(value) for name, value in merged.items() if value is not None}
        content = None if self.body is None else msgspec.json.encode(self.body)
        headers = {} if content is None else {"content-type": "application/json"}
        return {"method": self.method, "url": self.path, "params": query, "content": content, "headers": headers}


def path(*parts: str | int) -> str:
    """A path below /v1 with every part percent-encoded: labels may contain any character.

    Raises:
        QueryError: a part is empty: the path would be that of another route.
    """
    if "" in parts:
        raise QueryError("the name of a run, label or document is empty", fix="give the name")
    return "/v1/" + "/".join(segment_of(str(part)) for part in parts)


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def http_arguments(url: str, key: str | None, timeout: float) -> dict[str, Any]:
    """Arguments of httpx's clients."""
    key = key or os.environ.get(KEY_VARIABLE)
    headers = {"user-agent": f"tegakari/{__version__}", "accept": "application/json"}
    if key:
        headers["authorization"] = f"Bearer {key}"
    return {"base_url": url.rstrip("/"), "timeout": timeout, "headers": headers}


def decoded(response: httpx.Response, response_type: type[T]) -> T:
    """The body of a response as a struct.

    Raises:
        ApiError: the response is a problem, or not of that type.
    """
    check(response)
    try:
        return decode_json(response.content, response_type)
    except msgspec.DecodeError as error:
        raise ApiError(
            response.status_code, "The response cannot be read", str(error), fix="is this a tegakari service?"
        ) from None


def check(response: httpx.Response) -> None:
    """Raise the problem of a response that is not a success.

    Raises:
        ApiError: with the problem document, or with the status and the first 500 characters of the body.
    """
    if response.is_success:
        return
    try:
        problem = decode_json(response.content, _Problem)
    except msgspec.DecodeError:
        raise ApiError(response.status_code, response.reason_phrase, response.text[:500]) from None
    raise ApiError(
        response.status_code,
        problem.title,
        problem.detail,
        type=problem.type,
        field=problem.field,
        fix=problem.fix,
    )


class _Problem(msgspec.Struct, frozen=True):
    type: str = "about:blank"
    title: str = ""
    detail: str = ""
    field: str | None = None
    fix: str | None = None
