"""Bodies of responses that their clients have not received yet: sent in parts, and bounded in memory together."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

from litestar.types import Scope

from tegakari.service.http.disconnect import abort_of

PART_BYTES = 2**15
"""Size of the parts. The server holds about one per connection beside the body."""

MAX_UNSENT_BYTES = 32 * 2**20
"""of all bodies of more than one part"""


class _Body:
    def __init__(self, size: int, abort: Callable[[], None] | None) -> None:
        self.unsent = size
        self.abort = abort


class UnsentBodies:
    """The bodies of a worker that are being sent.

    A client that reads slowly keeps the rest of its response in the memory of the server. Beyond a total, the
    connections whose responses have taken longest are closed: those of clients that read at a usual speed are done in
    less than a second.
    """

    def __init__(self) -> None:
        """Start with none."""
        self._bodies: dict[_Body, None] = {}  # in the order in which they began
        self._total = 0

    async def parts(self, body: bytes, scope: Scope) -> AsyncIterator[tuple[bytes, bool]]:
        """The parts of a body, and whether more follow; the next is requested once the client has room for it.

        Args:
            body: of a response.
            scope: of its request.
        """
        if len(body) <= PART_BYTES:
            yield body, False
            return
        entry = _Body(len(body), abort_of(scope))
        self._add(entry)
        try:
            for start in range(0, len(body), PART_BYTES):
                part = body[start : start + PART_BYTES]
                yield part, start + len(part) < len(body)
                self._sent(entry, len(part))
        finally:
            self._sent(entry, entry.unsent)
            self._bodies.pop(entry, None)

    def _add(self, entry: _Body) -> None:
        self._total += entry.unsent
        self._bodies[entry] = None
        while self._total > MAX_UNSENT_BYTES and len(self._bodies) > 1:
            oldest = next(iter(self._bodies))
            del self._bodies[oldest]
            self._sent(oldest, oldest.unsent)
            if oldest.abort is not None:
                oldest.abort()

    def _sent(self, entry: _Body, size: int) -> None:
        size = min(size, entry.unsent)
        entry.unsent -= size
        self._total -= size
