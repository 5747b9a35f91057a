"""A uvicorn server that hands its jobs over to other servers of the store before it awaits requests in progress."""

from __future__ import annotations

import socket
from typing import Any

import uvicorn

from tegakari.service.app import Api


class DrainingServer(uvicorn.Server):
    """Stops in order: `/readyz` says so, jobs end or are handed over, requests in progress end, the rest stops."""

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Called once by uvicorn after SIGTERM or SIGINT; requests that wait for a job have their response then."""
        application: Any = self.config.loaded_app
        while not isinstance(application, Api):  # what uvicorn and traces put around it
            application = application.app
        await application.state.jobs.drain()
        await super().shutdown(sockets)
