"""Route of the pages about errors: formats, unknown errors, and no other file."""

from __future__ import annotations

from importlib.resources import files

import pytest
from litestar.testing import TestClient

PAGE = "/docs/errors/bad-sql"


@pytest.mark.parametrize(
    ("accept", "media_type"),
    [
        ("*/*", "text/html"),
        ("text/html, text/markdown;q=0.9", "text/html"),
        ("text/markdown, text/html;q=0.9", "text/markdown"),
        ("text/markdown", "text/markdown"),
        ("application/json", "text/html"),
        ("", "text/html"),
    ],
)
def test_the_format_is_that_of_accept(client: TestClient, accept: str, media_type: str):
    page = client.get(PAGE, headers={"Accept": accept})
    assert page.status_code == 200
    assert page.headers["content-type"] == f"{media_type}; charset=utf-8"
    assert page.headers["vary"] == "Accept, Accept-Encoding"


def test_markdown_is_the_file_of_the_package(client: TestClient):
    file = files("tegakari.service") / "pages" / "errors" / "bad-sql.md"
    assert client.get(PAGE, headers={"Accept": "text/markdown"}).text == file.read_text(encoding="utf-8")


def test_relative_links_become_text(client: TestClient):
    assert "](../" in client.get(PAGE, headers={"Accept": "text/markdown"}).text
    html = client.get(PAGE).text
    assert "](" not in html
    assert 'href="../' not in html


def test_head_is_get_without_the_body(client: TestClient):
    assert client.head(PAGE).headers["content-type"] == client.get(PAGE).headers["content-type"]


@pytest.mark.parametrize("slug", ["nope", "bad-sql.md", "..%2fviewer", "%2e%2e%2f%2e%2e%2fapp.py", "BAD-SQL"])
def test_an_unknown_error_has_no_page(client: TestClient, slug: str):
    response = client.get(f"/docs/errors/{slug}")
    assert (response.status_code, response.json()["field"]) == (404, "slug")


def test_parameters_are_refused(client: TestClient):
    assert client.get(f"{PAGE}?format=csv").status_code == 400
