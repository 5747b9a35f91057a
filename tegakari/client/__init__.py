"""The REST API from Python: `Client`, and `AsyncClient` with asyncio. Needs neither torch nor a store."""

from tegakari.client._async import AsyncClient, AsyncPages
from tegakari.client._sync import Client, Pages
from tegakari.client.errors import ApiError, UnreachableError

__all__ = ["ApiError", "AsyncClient", "AsyncPages", "Client", "Pages", "UnreachableError"]
