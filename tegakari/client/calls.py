"""Requests and answers as data, the same for both clients."""

from __future__ import annotations

import os
import random
from collections.abc import Mapping
from typing import Any, Generic, NamedTuple, TypeVar
from urllib.parse import quote

import httpx
import msgspec

from tegakari import __version__
from tegakari.client.errors import ApiError
from tegakari.schemas.jobs import KnockoutJob
from tegakari.schemas.knockout import KnockoutResult

T = TypeVar("T")

KEY_VARIABLE = "TEGAKARI_KEY"
ARROW = "application/vnd.apache.arrow.stream"

JOB_STARTED = 202
"""Status of an answer that is a job."""

EVENT_DATA = "data: "
"""Begins a line of Server-Sent Events that holds an event's data."""

RETRIED = (429, 503)
"""Statuses that pass. What is asked changes nothing, so asking again is safe."""

FIRST_PAUSE = 0.2
LONGEST_PAUSE = 30.0
"""seconds"""


class Call(NamedTuple, Generic[T]):
    """One question."""

    method: str
    path: str
    answer: type[T]
    parameters: Mapping[str, Any] = {}
    body: msgspec.Struct | None = None

    def request(self, **more: Any) -> dict[str, Any]:
        """Arguments for httpx; what is None is left out."""
        asked = {**self.parameters, **more}
        sent = {name: _text(value) for name, value in asked.items() if value is not None}
        content = None if self.body is None else msgspec.json.encode(self.body)
        headers = {} if content is None else {"content-type": "application/json"}
        return {"method": self.method, "url": self.path, "params": sent, "content": content, "headers": headers}


def path(*parts: str | int) -> str:
    """A path below /v1, each part encoded: labels may hold any character."""
    return "/v1/" + "/".join(quote(str(part), safe="") for part in parts)


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def settings(url: str, key: str | None, timeout: float) -> dict[str, Any]:
    """Arguments for httpx's clients."""
    key = key or os.environ.get(KEY_VARIABLE)
    headers = {"user-agent": f"tegakari/{__version__}", "accept": "application/json"}
    if key:
        headers["authorization"] = f"Bearer {key}"
    return {"base_url": url.rstrip("/"), "timeout": timeout, "headers": headers}


def pause(attempt: int, response: httpx.Response | None) -> float:
    """Seconds until the next attempt: what the service says, or else twice as long each time, and never all at once."""
    if response is not None:
        said = response.headers.get("retry-after", "")
        if said.isdigit():
            return min(float(said), LONGEST_PAUSE)
    return min(FIRST_PAUSE * 2**attempt, LONGEST_PAUSE) * random.uniform(0.5, 1)


def decoded(response: httpx.Response, answer: type[T]) -> T:
    """The answer as a struct.

    Raises:
        ApiError: the service answered something else.
    """
    check(response)
    try:
        return msgspec.json.decode(response.content, type=answer)
    except msgspec.DecodeError as error:
        raise ApiError(
            response.status_code, "The answer cannot be read", str(error), fix="is this a tegakari service?"
        ) from None


def finished_job(response: httpx.Response) -> KnockoutJob:
    """A knockout that was answered at once, as the job that it could have been.

    Raises:
        ApiError: it was not answered.
    """
    result = decoded(response, KnockoutResult)
    return KnockoutJob(
        id=response.headers.get("content-location", "").rpartition("/")[2],
        state="done",
        done=result.documents,
        total=result.documents,
        run=result.run,
        settings=result.settings,
        created="",
        result=result,
    )


def check(response: httpx.Response) -> None:
    """Raise the problem that a response tells of.

    Raises:
        ApiError: with the problem document, or with what there is in its place.
    """
    if response.is_success:
        return
    try:
        problem = msgspec.json.decode(response.content, type=_Problem)
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
