"""The Litestar application over one store."""

from __future__ import annotations

from pathlib import Path

from litestar import Litestar
from litestar.datastructures import MutableScopeHeaders, State
from litestar.di import Provide
from litestar.types import Message, Scope

from tegakari.service import health, runs
from tegakari.service.paths import Api
from tegakari.service.problems import EXCEPTION_HANDLERS
from tegakari.service.reference import openapi_config
from tegakari.store import Store


def create_app(store: Path) -> Litestar:
    """Build the API over a store; runs published or deleted later are noticed.

    Args:
        store: the store's directory; it need not be there yet.
    """
    return Api(
        [health.ROUTER, runs.ROUTER],
        state=State({"store": Store(store)}),
        dependencies={"store": Provide(_store, sync_to_thread=False)},
        exception_handlers=EXCEPTION_HANDLERS,
        openapi_config=openapi_config(),
        before_send=[_forbid_sniffing],
        logging_config=None,  # failures are logged once, where they become problems
    )


def _store(state: State) -> Store:
    return state.store


async def _forbid_sniffing(message: Message, _: Scope) -> None:
    if message["type"] == "http.response.start":
        MutableScopeHeaders.from_message(message)["X-Content-Type-Options"] = "nosniff"
