"""The REST API from Python: `Client`, and `AsyncClient` with asyncio. Needs neither torch nor a store."""

from tegakari.client.asynchronous import AsyncClient, AsyncPages
from tegakari.client.errors import ApiError, UnreachableError
from tegakari.client.synchronous import Client, Pages

__all__ = ["ApiError", "AsyncClient", "AsyncPages", "Client", "Pages", "UnreachableError"]
