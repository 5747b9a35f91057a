"""The transformation of the asynchronous client into the synchronous one."""

from __future__ import annotations

import ast

import pytest

from tools.generate_client import TARGET, synchronous

MODULE = '''"""The asynchronous module."""

import asyncio
from collections.abc import AsyncIterator, Callable

import httpx


class AsyncLines:
    """Lines of a response: `async for line in AsyncLines(response)`, or `await lines.all()`."""

    def __init__(self, response: httpx.Response, log: Callable[[str], None]) -> None:
        self._response = response
        self._log = log

    async def __aiter__(self) -> AsyncIterator[str]:
        async for line in self._response.aiter_lines():
            yield line

    async def all(self) -> list[str]:
        # "await" in a string or a comment stays: await
        self._log("await and async")
        return [line async for line in self]

    async def lengths(self) -> list[int]:
        return [len(line) async for line in self if line]

    async def first(self, delay: float) -> bytes:
        await asyncio.sleep(delay)
        async with httpx.AsyncClient(transport=httpx.AsyncHTTPTransport()) as client:
            # comments stay
            return (await client.get("/")).content.strip(
                b"a long argument for which the line had to be broken, as it is now"
            )
'''

EXPECTED = '''"""The synchronous module."""

import time
from collections.abc import Callable, Iterator

import httpx


class Lines:
    """Lines of a response: `for line in Lines(response)`, or `lines.all()`."""

    def __init__(self, response: httpx.Response, log: Callable[[str], None]) -> None:
        self._response = response
        self._log = log

    def __iter__(self) -> Iterator[str]:
        yield from self._response.iter_lines()

    def all(self) -> list[str]:
        # "await" in a string or a comment stays: await
        self._log("await and async")
        return list(self)

    def lengths(self) -> list[int]:
        return [len(line) for line in self if line]

    def first(self, delay: float) -> bytes:
        time.sleep(delay)
        with httpx.Client(transport=httpx.HTTPTransport()) as client:
            # comments stay
            return client.get("/").content.strip(b"a long argument for which the line had to be broken, as it is now")
'''


def test_every_construct():
    assert synchronous(MODULE) == EXPECTED


def test_a_synchronous_module_stays():
    assert synchronous(EXPECTED) == EXPECTED


def test_the_generated_client_has_no_trace_of_asyncio():
    header, _, text = TARGET.read_text(encoding="utf-8").partition("\n")
    assert header == "# Generated from _async.py by `python -m tools.generate_client`: change _async.py, not this file."
    assert "async" not in text.lower()
    assert "await" not in text


@pytest.mark.parametrize("name", ["Client", "Pages"])
def test_methods_are_those_of_the_asynchronous_client(name: str):
    asynchronous, generated = (
        {
            node.name: [
                method.name for method in node.body if isinstance(method, ast.FunctionDef | ast.AsyncFunctionDef)
            ]
            for node in ast.parse(path.read_text(encoding="utf-8")).body
            if isinstance(node, ast.ClassDef)
        }
        for path in (TARGET.with_name("_async.py"), TARGET)
    )
    renamed = {"__aenter__": "__enter__", "__aexit__": "__exit__", "__aiter__": "__iter__", "aclose": "close"}
    assert [renamed.get(method, method) for method in asynchronous[f"Async{name}"]] == generated[name]
