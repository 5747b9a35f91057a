"""Write the client without asyncio from the one with it: `python -m docs.generate_client`. A test compares them."""

from __future__ import annotations

from pathlib import Path

CLIENT = Path(__file__).parent.parent / "tegakari" / "client"

_CHANGES = (
    (
        '"""The REST API from Python, with asyncio."""',
        '"""The REST API from Python. Generated from asynchronous.py."""',
    ),
    ("            for item in page.items:\n                yield item\n", "            yield from page.items\n"),
    ("[item async for item in self]", "list(self)"),
    ("import asyncio\n", "import time\n"),
    ("asyncio.sleep", "time.sleep"),
    ("AsyncBaseTransport", "BaseTransport"),
    ("AsyncIterator", "Iterator"),
    ("AsyncPages", "Pages"),
    ("AsyncClient", "Client"),
    ("__aiter__", "__iter__"),
    ("__aenter__", "__enter__"),
    ("__aexit__", "__exit__"),
    ("aclose", "close"),
    ("response.aread", "response.read"),
    ("response.aiter_lines", "response.iter_lines"),
    ("async with ", "with "),
    ("async def ", "def "),
    ("async for ", "for "),
    ("await ", ""),
)


def synchronous() -> str:
    """The module as it should be."""
    text = (CLIENT / "asynchronous.py").read_text(encoding="utf-8")
    for before, after in _CHANGES:
        text = text.replace(before, after)
    return text.replace("(self.to_arrow()).", "self.to_arrow().")


if __name__ == "__main__":
    (CLIENT / "synchronous.py").write_text(synchronous(), encoding="utf-8")
