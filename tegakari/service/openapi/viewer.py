"""The OpenAPI document at /schema/openapi.json, and its viewer at /schema, from files of this package alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from litestar import Request, Response, Router
from litestar.exceptions import NotFoundException
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin, OpenAPIRenderPlugin
from litestar.routes import HTTPRoute
from litestar.static_files import create_static_files_router

from tegakari.service.http.headers import PAGE_POLICY
from tegakari.service.http.operations import PUBLIC
from tegakari.service.openapi.document import complete
from tegakari.version import __version__

STATIC = Path(__file__).parents[1] / "static"


class ViewerPage(OpenAPIRenderPlugin):
    """RapiDoc, configured to load nothing from other servers."""

    def __init__(self) -> None:
        super().__init__(path="/")
        self._page = (STATIC / "viewer.html").read_bytes()

    def render(self, request: Request[Any, Any, Any], openapi_schema: dict[str, Any]) -> bytes:
        return self._page

    def receive_router(self, router: Router) -> None:
        router.register(create_static_files_router(path="/static", directories=[STATIC], opt=PUBLIC))


class CompletedJson(JsonRenderPlugin):
    """The completed document; made with the first request."""

    _document: bytes | None = None

    def render(self, request: Request[Any, Any, Any], openapi_schema: dict[str, Any]) -> bytes:
        if self._document is None:
            handlers = [
                handler
                for route in request.app.routes
                if isinstance(route, HTTPRoute)
                for handler in route.route_handlers
            ]
            self._document = super().render(request, complete(openapi_schema, handlers))
        return self._document


async def _finish_page(response: Response[Any]) -> Response[Any]:
    """Add the policy of pages. Litestar's 404 below /schema is HTML; raised, it becomes a problem document."""
    if response.status_code == 404:
        raise NotFoundException
    response.headers["Content-Security-Policy"] = PAGE_POLICY
    return response


def openapi_config() -> OpenAPIConfig:
    """The configuration of /schema and /schema/openapi.json."""
    return OpenAPIConfig(
        title="tegakari",
        version=__version__,
        summary="Which features carry a label, and how specific they are.",
        use_handler_docstrings=True,
        render_plugins=[CompletedJson(), ViewerPage()],
        openapi_router=Router(
            "/schema", route_handlers=[], include_in_schema=False, after_request=_finish_page, opt=PUBLIC
        ),
    )
