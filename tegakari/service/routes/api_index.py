"""Route of the index: the version, the documents and all operations of the API."""

from __future__ import annotations

import re
from typing import Any

from litestar import Request, get
from litestar.routes import HTTPRoute

from tegakari.schemas.api_index import ApiIndex, ApiOperation
from tegakari.service.http.operations import NO_CACHE
from tegakari.service.http.problems import documented
from tegakari.version import __version__

_PARAMETER_TYPE = re.compile(r":\w+}")


@get(
    "/",
    operation_id="getIndex",
    summary="Index of the API",
    responses=documented(400),
    cache_control=NO_CACHE,
    sync_to_thread=False,
)
def get_index(request: Request[Any, Any, Any]) -> ApiIndex:
    """Version, documents and operations of the service. Paths with `{...}` are templates."""
    operations = [
        ApiOperation(
            operation=handler.operation_id,
            method=method,
            path=_PARAMETER_TYPE.sub("}", route.path),
            summary=str(handler.summary),
        )
        for route in request.app.routes
        if isinstance(route, HTTPRoute)
        for handler in route.route_handlers
        if isinstance(handler.operation_id, str)
        for method in handler.http_methods
    ]
    operations.sort(key=lambda operation: (operation.path, operation.method))
    return ApiIndex(
        version=__version__,
        runs="/v1/runs",
        openapi="/schema/openapi.json",
        viewer="/schema",
        operations=operations,
    )


HANDLERS = (get_index,)
