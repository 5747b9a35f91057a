"""A server of OpenAI's chat completions: requests with retries, in a format that the server understands.

Written for vLLM, Ollama, llama.cpp and `transformers serve`. Servers differ in how they can be held to a JSON schema:
the strictest way is tried first, and a server that refuses it gets the next.
"""

from __future__ import annotations

import asyncio
import ipaddress
import os
from collections.abc import Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import httpx
import msgspec

from tegakari.schemas.config import ExplainConfig
from tegakari.schemas.decoding import decode_json
from tegakari.schemas.errors import EndpointError
from tegakari.schemas.retries import pause, requested_pause

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

MAX_BODY = 2**20
"""Size of a response in bytes beyond which it is not read."""

LONGEST_PAUSE = 120.0
"""Seconds that a server may ask to wait; one that asks for more has failed."""

RETRIED = (408, 409, 425, 429, 500, 502, 503, 504)
"""Statuses after which the same request can succeed."""

_FORMATS = ("json_schema", "json_object", "text")
_ABOUT_FORMAT = ("response_format", "json_schema", "schema", "grammar", "guided", "structured")
_SHOWN = 200


class Message(msgspec.Struct, frozen=True):
    """A turn of a conversation."""

    role: str
    content: str


class Prompt(NamedTuple):
    """A conversation that the model continues, and the JSON that it answers with."""

    version: str
    messages: tuple[Message, ...]
    schema: Mapping[str, Any]
    """JSON schema of the answer"""
    max_tokens: int
    """of the answer"""


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What the model wrote."""

    content: str
    cut: bool
    """whether it was cut at `max_tokens`"""
    prompt_tokens: int | None = None
    answer_tokens: int | None = None
    """as the server counts them; null: it does not say"""


class NoAnswerError(Exception):
    """A request without an answer after all retries; others may succeed."""


class _Message(msgspec.Struct, frozen=True):
    content: str | None = None
    refusal: str | None = None


class _Choice(msgspec.Struct, frozen=True):
    message: _Message
    finish_reason: str | None = None


class _Usage(msgspec.Struct, frozen=True):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None


class _Completion(msgspec.Struct, frozen=True):
    choices: list[_Choice]
    usage: _Usage | None = None


class _Model(msgspec.Struct, frozen=True):
    id: str


class _Models(msgspec.Struct, frozen=True):
    data: list[_Model]


class _Failure(NamedTuple):
    """A request that failed."""

    reason: str
    retry_after: str | None = None
    unreachable: bool = False


def is_local(base_url: str) -> bool:
    """Whether an address is on this machine: localhost, or a loopback address.

    Raises:
        EndpointError: it is no address.
    """
    try:
        host = httpx.URL(base_url).host
    except httpx.InvalidURL as error:
        raise EndpointError(
            f"{base_url!r} is no address: {error}",
            field="explain.base_url",
            fix="give one like http://127.0.0.1:8000/v1",
        ) from None
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def check_may_send(config: ExplainConfig) -> None:
    """Refuse to send excerpts of documents to another machine, unless the configuration says so.

    Raises:
        EndpointError: names the key of the configuration.
    """
    if not config.send_texts and not is_local(config.base_url):
        raise EndpointError(
            f"{config.base_url} is on another machine, and prompts contain excerpts of documents",
            field="explain.send_texts",
            fix="set it to true if the texts may leave this machine, or use a server on this machine",
        )


class Endpoint:
    """A model of a server. Requests of any number of tasks share its connections and its pauses."""

    def __init__(self, connections: asyncio.LifoQueue[httpx.AsyncClient], config: ExplainConfig, model: str) -> None:
        self.model = model
        self.requests = 0
        """requests sent, retries included"""
        self._connections = connections
        self._config = config
        self._format = _FORMATS[0]
        self._not_before = 0.0

    async def answer(self, prompt: Prompt) -> Answer:
        """What the model answers, at temperature 0.

        Raises:
            NoAnswerError: all retries failed, or the answer is empty, refused, or no chat completion.
            EndpointError: no request can succeed: the server cannot be reached, or refuses key, model or request.
        """
        attempt = 0
        while True:
            await self._wait()
            format_ = self._format
            self.requests += 1
            outcome = await self._attempt(prompt, format_)
            if isinstance(outcome, Answer):
                return outcome
            if outcome is None:  # the server refuses the format: the next one, at once
                if self._format == format_:
                    self._format = _FORMATS[_FORMATS.index(format_) + 1]
                continue
            if attempt >= self._config.retries:
                if outcome.unreachable:
                    raise self._error(outcome.reason, "start the server, or correct the address", "base_url")
                raise NoAnswerError(outcome.reason)
            if (requested_pause(outcome.retry_after) or 0) > LONGEST_PAUSE:
                raise NoAnswerError(f"{outcome.reason}; the server asks to wait {outcome.retry_after}")
            seconds = pause(attempt, outcome.retry_after, longest=LONGEST_PAUSE)
            if outcome.retry_after is not None:  # a limit of the server holds for all tasks
                self._not_before = max(self._not_before, _clock() + seconds)
            else:
                await asyncio.sleep(seconds)
            attempt += 1

    async def _wait(self) -> None:
        while (seconds := self._not_before - _clock()) > 0:
            await asyncio.sleep(seconds)

    async def _attempt(self, prompt: Prompt, format_: str) -> Answer | _Failure | None:
        """One request; None: the server refuses the format."""
        body = {
            "model": self.model,
            "messages": prompt.messages,
            "temperature": 0,
            "max_tokens": prompt.max_tokens,
            "stream": False,
            **_response_format(format_, prompt.schema),
        }
        try:
            status, headers, content = await self._send(body)
        except httpx.TimeoutException:
            return _Failure(f"no answer within {self._config.timeout:g} seconds")
        except httpx.ConnectError as error:
            return _Failure(f"cannot be reached: {error or 'no connection'}", unreachable=True)
        except httpx.RequestError as error:  # also a body that ends before its length
            return _Failure(f"the connection broke: {error or type(error).__name__}")
        if status in RETRIED:
            return _Failure(f"status {status}: {_excerpt(content)}", headers.get("retry-after"))
        if status != 200:
            text = content.decode("utf-8", "replace").lower()
            if status in (400, 422, 501) and format_ != _FORMATS[-1] and any(name in text for name in _ABOUT_FORMAT):
                return None
            raise self._refusal(status, content)
        return _answer(content)

    async def _send(self, body: Mapping[str, Any]) -> tuple[int, httpx.Headers, bytes]:
        content = msgspec.json.encode(body)
        http = await self._connections.get()
        try:
            async with http.stream("POST", "chat/completions", content=content) as response:
                parts, size = [], 0
                async for part in response.aiter_bytes():
                    parts.append(part)
                    size += len(part)
                    if size > MAX_BODY:
                        break
                return response.status_code, response.headers, b"".join(parts)
        finally:
            self._connections.put_nowait(http)

    def _refusal(self, status: int, content: bytes) -> EndpointError:
        reason = f"status {status}: {_excerpt(content)}"
        if status in (401, 403):
            variable = self._config.key_variable
            key = "has no key" if not os.environ.get(variable) else "has another one"
            return self._error(
                reason, f"put the server's API key into the variable {variable}, which {key}", "key_variable"
            )
        if status == 404:
            return self._error(
                reason, f"does the server have the model {self.model!r}, and is the path right?", "model"
            )
        return self._error(reason, "the server's log may say more", "base_url")

    def _error(self, reason: str, fix: str, key: str) -> EndpointError:
        return EndpointError(f"{self._config.base_url}: {reason}", field=f"explain.{key}", fix=fix)


@asynccontextmanager
async def open_endpoint(config: ExplainConfig) -> AsyncIterator[Endpoint]:
    """The model of a configuration; connections are closed after the block.

    Raises:
        EndpointError: the texts may not be sent there, or no model is named and the server does not have exactly one.
    """
    check_may_send(config)
    headers = {"user-agent": "tegakari", "content-type": "application/json"}
    if key := os.environ.get(config.key_variable, "").strip():
        if not (key.isascii() and key.isprintable()):
            raise EndpointError(
                f"the variable {config.key_variable} holds characters that no key has",
                field="explain.key_variable",
                fix="put the server's API key into it",
            )
        headers["authorization"] = f"Bearer {key}"
    # A proxy of the environment would take the texts of a server on this machine to another one.
    trust_env = not is_local(config.base_url)
    context = httpx.create_ssl_context(trust_env=trust_env)  # once, since it takes 20 ms
    # A client per connection: one client looks at all of its connections before and after each request.
    clients = [
        httpx.AsyncClient(
            base_url=config.base_url.rstrip("/") + "/",
            timeout=config.timeout,
            headers=headers,
            limits=httpx.Limits(max_connections=1),
            verify=context,
            trust_env=trust_env,
        )
        for _ in range(config.concurrency)
    ]
    connections: asyncio.LifoQueue[httpx.AsyncClient] = asyncio.LifoQueue()
    async with AsyncExitStack() as stack:
        for http in clients:
            connections.put_nowait(await stack.enter_async_context(http))
        yield Endpoint(connections, config, config.model or await _only_model(clients[0], config))


async def _only_model(http: httpx.AsyncClient, config: ExplainConfig) -> str:
    """Name of the one model that the server has.

    Raises:
        EndpointError: it has none or several, or does not list them.
    """
    error = EndpointError(
        f"{config.base_url} does not say which model it has", field="explain.model", fix="name the model"
    )
    try:
        response = await http.get("models")
        names = [model.id for model in decode_json(response.content, _Models).data] if response.is_success else []
    except (httpx.RequestError, msgspec.DecodeError) as failure:
        raise error from failure
    if len(names) == 1:
        return names[0]
    if names:
        error = EndpointError(
            f"{config.base_url} has {len(names)} models",
            field="explain.model",
            fix=f"name one of: {', '.join(names[:20])}",
        )
    raise error


def _response_format(format_: str, schema: Mapping[str, Any]) -> dict[str, Any]:
    if format_ == "json_schema":
        named = {"name": "answer", "strict": True, "schema": schema}
        return {"response_format": {"type": "json_schema", "json_schema": named}}
    return {"response_format": {"type": "json_object"}} if format_ == "json_object" else {}


def _answer(content: bytes) -> Answer | _Failure:
    if len(content) > MAX_BODY:
        return _Failure(f"the response is larger than {MAX_BODY:,} bytes")
    try:
        completion = decode_json(content, _Completion)
        choice = completion.choices[0]
    except (msgspec.DecodeError, IndexError):
        return _Failure(f"the response is no chat completion: {_excerpt(content)}")
    if choice.message.refusal:
        return _Failure(f"the model refuses: {choice.message.refusal[:_SHOWN]}")
    if not (choice.message.content or "").strip():
        return _Failure("the answer is empty")
    usage = completion.usage or _Usage()
    return Answer(
        content=choice.message.content or "",
        cut=choice.finish_reason == "length",
        prompt_tokens=usage.prompt_tokens,
        answer_tokens=usage.completion_tokens,
    )


def _excerpt(content: bytes) -> str:
    """The beginning of a body, as one line of printable characters."""
    text = content[:_SHOWN].decode("utf-8", "replace")
    return " ".join("".join(letter if letter.isprintable() else " " for letter in text).split()) or "no text"


def _clock() -> float:
    return asyncio.get_running_loop().time()
