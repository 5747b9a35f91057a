"""A real Chromium before a real `tegakari serve`: every test fails if a page logs an error or leaves the server."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import httpx
import pytest

import tegakari
from tegakari.indexer.pipeline import index
from tests.support.factories import make_run
from tests.support.serving import serving
from tests.support.small_case import SmallCase, with_index

pytest.importorskip("playwright", reason="playwright is not installed: pip install -e '.[test]'")

from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page

from tools.chromium import chromium, chromium_command

LONG_LABEL = "あ" * 200
RIGHT_TO_LEFT_LABEL = "مجتمع السيارات القديمة"


class Served(NamedTuple):
    """A served store: small-head and small-max, whose models are on this machine, with a knockout; drawn and gone."""

    url: str
    store: Path
    client: httpx.Client


class Tab(NamedTuple):
    """A page of the browser, and the failures that it may log."""

    page: Page
    expected: list[str]
    """parts of console errors that the test provokes"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if chromium_command() is None:
        pytest.skip("NO CHROMIUM on the PATH: the explorer is not tested in a browser (apt-get install chromium)")
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="session")
def served(small_case: SmallCase, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    store = tmp_path_factory.mktemp("store")
    for pooling in ("head", "max"):
        index(with_index(small_case, store, run=f"small-{pooling}", pooling=pooling))
    tegakari.open(store)["small-max"].label("食品?").knockout(0, k=3)
    make_run(store, "drawn", labels=[LONG_LABEL, RIGHT_TO_LEFT_LABEL, "</script><script>alert(1)</script>"])
    make_run(store, "gone", labels=["a", "b"], layers=1)
    with serving("--store", store, "--log", "off") as (url, _), httpx.Client(base_url=url, timeout=60) as client:
        yield Served(url, store, client)


@pytest.fixture
def open_tab(browser: Browser, served: Served) -> Iterator[Callable[..., Tab]]:
    """Opens a page of the browser with options of a context; at the end of the test nothing may have gone wrong."""
    contexts: list[BrowserContext] = []
    requests: list[str] = []
    errors: list[tuple[Tab, str]] = []

    def open_tab(**options: Any) -> Tab:
        context = browser.new_context(base_url=served.url, **{"locale": "en", **options})
        context.set_default_timeout(30_000)
        contexts.append(context)
        tab = Tab(context.new_page(), [])

        def note(message: ConsoleMessage) -> None:
            if message.type in ("error", "warning"):
                errors.append((tab, f"{message.text} ({message.location})"))

        context.on("request", lambda request: requests.append(request.url))
        context.on("console", note)
        tab.page.on("pageerror", lambda error: errors.append((tab, str(error))))
        return tab

    yield open_tab
    for context in contexts:
        context.close()
    server = urlsplit(served.url).netloc
    assert {url for url in requests if urlsplit(url).scheme != "data" and urlsplit(url).netloc != server} == set()
    assert [text for tab, text in errors if not any(part in text for part in tab.expected)] == []


@pytest.fixture
def tab(open_tab: Callable[..., Tab]) -> Tab:
    return open_tab(viewport={"width": 1280, "height": 900})
