"""Route of the pages about errors, which the `type` of a problem names."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Annotated, Any

from jinja2 import Template
from litestar import MediaType, Request, Response, get
from litestar.openapi import ResponseSpec
from litestar.params import PathParameter
from markdown_it import MarkdownIt
from markdown_it.rules_core import StateCore
from markupsafe import Markup

from tegakari.schemas.errors import NotFoundError, error_classes
from tegakari.service.http.headers import PAGE_POLICY, header, preferences
from tegakari.service.http.operations import PUBLIC
from tegakari.service.http.problems import described

PAGES = Path(__file__).parents[1] / "pages"

MARKDOWN = "text/markdown"

ErrorSlug = Annotated[str, PathParameter(description="kind of the error, the last segment of a problem's `type`")]


@get(
    "/docs/errors/{slug:str}",
    operation_id="getErrorPage",
    summary="Page about an error",
    responses={
        200: ResponseSpec(str, media_type=MediaType.HTML, description="The page.", generate_examples=False),
        **described(400, 404),
    },
    sync_to_thread=True,
    opt=PUBLIC,
)
def get_error_page(slug: ErrorSlug, request: Request[Any, Any, Any]) -> Response[str]:
    """Cause of an error and what to do about it, in HTML, or in Markdown if `Accept` prefers it."""
    if slug not in _slugs():
        raise NotFoundError(f"no error {slug!r}", field="slug", fix="use the last segment of a problem's `type`")
    headers = {"Vary": "Accept, Accept-Encoding"}
    if _prefers_markdown(header(request.scope, b"accept")):
        return Response(_markdown(slug), media_type=MARKDOWN, headers=headers)
    headers["Content-Security-Policy"] = PAGE_POLICY
    return Response(_html(slug), media_type=MediaType.HTML, headers=headers)


@cache
def _slugs() -> frozenset[str]:
    return frozenset(error.slug for error in error_classes())


def _prefers_markdown(accept: str) -> bool:
    for media_type in preferences(accept):
        if media_type in (MARKDOWN, "text/html", "text/*", "*/*"):
            return media_type == MARKDOWN
    return False


@cache
def _markdown(slug: str) -> str:
    return (PAGES / "errors" / f"{slug}.md").read_text(encoding="utf-8")


@cache
def _html(slug: str) -> str:
    template = Template((PAGES / "error.html").read_text(encoding="utf-8"), autoescape=True)
    return template.render(slug=slug, content=Markup(_renderer().render(_markdown(slug))))


def _renderer() -> MarkdownIt:
    renderer = MarkdownIt("commonmark").enable("table")
    renderer.core.ruler.push("unlink", _unlink)
    return renderer


def _unlink(state: StateCore) -> None:
    """Turn relative links, which lead to pages that the service does not serve, into plain text."""
    for token in state.tokens:
        children = []
        relative = False
        for child in token.children or ():
            if child.type == "link_open":
                relative = not str(child.attrGet("href")).startswith(("https://", "/"))
            if not (relative and child.type in ("link_open", "link_close")):
                children.append(child)
        token.children = children if token.children is not None else None


HANDLERS = (get_error_page,)
