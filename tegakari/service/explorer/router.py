"""All pages of the explorer as one router."""

from __future__ import annotations

from pathlib import Path

from litestar import Router
from litestar.static_files import create_static_files_router

from tegakari.service.explorer import (
    compare,
    confusion,
    document,
    feature,
    jobs,
    knockout,
    label,
    notes,
    run,
    run_list,
    search,
    sign_in,
    try_text,
)
from tegakari.service.explorer.empty_fields import WithoutEmptyFields
from tegakari.service.explorer.page import PAGE_EXCEPTION_HANDLERS
from tegakari.service.explorer.run_of_page import RunOfPage
from tegakari.service.http.operations import PUBLIC

RUN_HANDLERS = (
    *run.RUN_HANDLERS,
    *label.RUN_HANDLERS,
    *feature.RUN_HANDLERS,
    *document.RUN_HANDLERS,
    *confusion.RUN_HANDLERS,
    *notes.RUN_HANDLERS,
)
"""Handlers of pages below /runs/{run}."""

HANDLERS = (
    *run_list.HANDLERS,
    *compare.HANDLERS,
    *search.HANDLERS,
    *try_text.HANDLERS,
    *jobs.HANDLERS,
    *knockout.HANDLERS,
    *sign_in.HANDLERS,
)


def explorer() -> Router:
    """The router of the pages, their styles and their scripts."""
    files = create_static_files_router(
        path="/explorer", directories=[Path(__file__).parent / "static"], opt=PUBLIC, include_in_schema=False
    )
    run_router = Router("/runs/{run:str}", route_handlers=RUN_HANDLERS, middleware=[RunOfPage()])
    return Router(
        "/",
        route_handlers=[*HANDLERS, run_router, files],
        middleware=[WithoutEmptyFields()],
        exception_handlers=PAGE_EXCEPTION_HANDLERS,
    )
