"""Which client the models work for next: the one that has had the least of their time."""

from __future__ import annotations

from collections import Counter

_REMEMBERED = 1024
"""Clients whose time is remembered before those that have no work and owe nothing are forgotten."""


class FairShares:
    """Time of the models that each client has had.

    Start-time fair queueing (Goyal, Vin and Cheng, 1996): a client that comes back after a pause starts where the
    others are, so that it neither makes up for its absence nor escapes what it has used. Clients with work get equal
    shares of the time, however many requests each sends.
    """

    def __init__(self) -> None:
        self._seconds: dict[str, float] = {}
        self._requests: Counter[str] = Counter()
        self._now = 0.0
        """seconds of the client that was served last"""

    def join(self, client: str) -> None:
        """A client has one more request."""
        if not self._requests[client]:
            if len(self._seconds) >= _REMEMBERED:
                self._seconds = {
                    name: seconds
                    for name, seconds in self._seconds.items()
                    if seconds > self._now or name in self._requests
                }
            self._seconds[client] = max(self._seconds.get(client, 0.0), self._now)
        self._requests[client] += 1

    def leave(self, client: str) -> None:
        """One of a client's requests has ended."""
        self._requests[client] -= 1
        if not self._requests[client]:
            del self._requests[client]

    def requests(self, client: str) -> int:
        """Requests of a client that have not ended."""
        return self._requests.get(client, 0)

    def seconds(self, client: str) -> float:
        """What orders clients with requests: the least comes first."""
        return self._seconds[client]

    def serve(self, client: str) -> None:
        """The models begin to work for a client."""
        self._now = max(self._now, self._seconds[client])

    def charge(self, client: str, seconds: float) -> None:
        """Time that the models have worked for a client with requests."""
        self._seconds[client] += seconds
