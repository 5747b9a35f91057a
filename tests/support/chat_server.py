"""A server of OpenAI's chat completions on this machine, which checks requests as the real ones do.

It is a real HTTP server: connections, bodies and their ends are those of the network. What the model says is a function
of the test.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import MappingProxyType
from typing import Any, NamedTuple

MODEL = "tiny-instruct"


class Reply(NamedTuple):
    """What the server sends."""

    content: str | None = None
    """of the assistant's message; None: null"""
    status: int = 200
    body: bytes | None = None
    """in place of a chat completion or an error"""
    headers: Mapping[str, str] = MappingProxyType({})
    cut: bool = False
    """the connection ends in the middle of the body"""
    finish_reason: str = "stop"


def explained(text: str) -> Reply:
    """A reply in the JSON that is asked for."""
    return Reply(json.dumps({"explanation": text}, ensure_ascii=False))


class ChatServer(ThreadingHTTPServer):
    """The server; `requests` are the bodies of chat completions so far."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(
        self,
        reply: Callable[[dict[str, Any]], Reply],
        *,
        key: str | None = None,
        formats: tuple[str, ...] = ("json_schema", "json_object"),
        delay: float = 0.0,
        models: tuple[str, ...] = (MODEL,),
    ) -> None:
        """Listen on a free port of 127.0.0.1.

        Args:
            reply: body of a chat completion -> reply; called by several threads, one at a time.
            key: API key that requests need.
            formats: types of `response_format` that the server knows.
            delay: seconds until a reply.
            models: names of the models.
        """
        super().__init__(("127.0.0.1", 0), _Handler)
        self.reply, self.key, self.formats, self.delay, self.models = reply, key, formats, delay, models
        self.requests: list[dict[str, Any]] = []
        self.largest_concurrency = 0
        self.concurrency = 0
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"

    def handle_error(self, request: object, client_address: object) -> None:
        """Clients that go away are no news."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: ChatServer
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        if not self._has_key():
            return
        if self.path == "/v1/models":
            self._send(
                200, {"object": "list", "data": [{"id": name, "object": "model"} for name in self.server.models]}
            )
        else:
            self._error(404, "no such path")

    def do_POST(self) -> None:
        content = self.rfile.read(int(self.headers.get("content-length", 0)))
        if self._has_key() and (body := self._body(content)) is not None:
            self._complete(body)

    def _body(self, content: bytes) -> dict[str, Any] | None:
        """The body of a request that is right; None: it was answered with an error."""
        wrong: tuple[int, str] | None = None
        try:
            body = json.loads(content)
        except ValueError:
            wrong = 400, "the body is not JSON"
        else:
            wrong = _wrong(body, self.server) if self.path == "/v1/chat/completions" else (404, "no such path")
        if wrong:
            self._error(*wrong)
            return None
        return body

    def _complete(self, body: dict[str, Any]) -> None:
        with self.server.lock:
            self.server.requests.append(body)
            self.server.concurrency += 1
            self.server.largest_concurrency = max(self.server.largest_concurrency, self.server.concurrency)
            reply = self.server.reply(body)
        time.sleep(self.server.delay)
        with self.server.lock:
            self.server.concurrency -= 1
        if reply.body is not None:
            self._send_bytes(reply.status, reply.body, reply.headers, cut=reply.cut)
        elif reply.status != 200:
            self._error(reply.status, "the server cannot answer", reply.headers)
        else:
            self._send(200, _completion(body, reply), reply.headers, cut=reply.cut)

    def _has_key(self) -> bool:
        if self.server.key is None or self.headers.get("authorization") == f"Bearer {self.server.key}":
            return True
        self._error(401, "Incorrect API key provided")
        return False

    def _error(self, status: int, message: str, headers: Mapping[str, str] | None = None) -> None:
        self._send(status, {"error": {"message": message, "type": "invalid_request_error"}}, headers or {})

    def _send(self, status: int, body: Any, headers: Mapping[str, str] | None = None, *, cut: bool = False) -> None:
        self._send_bytes(status, json.dumps(body).encode(), headers or {}, cut=cut)

    def _send_bytes(self, status: int, body: bytes, headers: Mapping[str, str], *, cut: bool) -> None:
        self.send_response(status)
        for name, value in {"content-type": "application/json", "content-length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if cut else body)
        self.wfile.flush()
        self.close_connection = self.close_connection or cut

    def log_message(self, format: str, *args: object) -> None:
        pass


def _completion(body: dict[str, Any], reply: Reply) -> dict[str, Any]:
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1795790586,
        "model": body["model"],
        "choices": [
            {
                "index": 0,
                "finish_reason": reply.finish_reason,
                "message": {"role": "assistant", "content": reply.content},
            }
        ],
        "usage": {"prompt_tokens": 700, "completion_tokens": 20, "total_tokens": 720},
    }


def _wrong(body: Any, server: ChatServer) -> tuple[int, str] | None:  # noqa: PLR0911
    """Status and message for a request that a real server refuses."""
    if not isinstance(body, dict) or not isinstance(body.get("messages"), list) or not body["messages"]:
        return 422, "messages: Field required"
    for message in body["messages"]:
        if not isinstance(message, dict) or message.keys() != {"role", "content"}:
            return 422, "messages: a message has role and content"
        if message["role"] not in ("system", "user", "assistant") or not isinstance(message["content"], str):
            return 422, "messages: wrong role or content"
    if body.get("model") not in server.models:
        return 404, f"The model {body.get('model')!r} does not exist"
    if body.get("stream") is not False or body.get("temperature") != 0 or body.get("max_tokens", 0) < 1:
        return 400, "stream, temperature or max_tokens"
    format_ = body.get("response_format")
    if format_ is not None:
        if format_.get("type") not in server.formats:
            return 400, f"'response_format.type' must be one of {server.formats}"
        if format_["type"] == "json_schema" and not isinstance(format_["json_schema"]["schema"], dict):
            return 400, "response_format.json_schema.schema"
    return None


@contextmanager
def chat_server(reply: Callable[[dict[str, Any]], Reply], **options: Any) -> Iterator[ChatServer]:
    """The server, running in a thread during the block."""
    with ChatServer(reply, **options) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
