"""Every page in both colour schemes and three widths: axe finds nothing serious, nothing overflows or moves."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from tests.support.accessibility import WCAG_AA, serious_violations
from tests.support.service import segment
from tools.explorer_pages import explorer_pages

if TYPE_CHECKING:
    from playwright.sync_api import Page

LAYOUT_SHIFTS = """() => new Promise((done) => {
  const shifts = [];
  const included = document.querySelector("[data-include]"); // it grows, and moves what follows
  const isPart = (node) => included &&
    (included.contains(node) || included.compareDocumentPosition(node) & Node.DOCUMENT_POSITION_FOLLOWING);
  new PerformanceObserver((list) => {
    for (const entry of list.getEntries())
      shifts.push([entry.value, ...entry.sources.map(({ node }) => isPart(node) ? "part" : node?.nodeName)]);
  }).observe({ type: "layout-shift", buffered: true });
  setTimeout(() => done(shifts), 60);
})"""


def overflow(page: Page) -> int:
    """Pixels by which the page is wider than the window."""
    return page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")


SMALLEST_SHIFT = 0.002
"""Score of a layout shift that counts: on a busy machine a table is painted before its last rows have come."""

LOADS = 3
"""Loads of a page that must all shift."""

ALL_COMBINATIONS = ("run", "label", "feature", "document")
"""Pages on which axe looks at both widths in both colours; at the others it looks at two of the four."""

BACKGROUNDS = {"light": "rgb(255, 255, 255)", "dark": "rgb(20, 23, 27)"}


def layout_shifts(page: Any, path: str) -> list[Any]:
    """Shifts of the layout that happen each time the page is loaded: on a busy machine, a part may come late once."""
    shifts: list[Any] = []
    for _ in range(LOADS):
        page.goto(path)
        seen = page.evaluate(LAYOUT_SHIFTS)
        shifts = [shift for shift in seen if shift[0] > SMALLEST_SHIFT and "part" not in shift]
        if not shifts:
            break
    return shifts


def test_every_page(open_tab: Callable[..., Any], served: Any):
    """A page is loaded once, and then shown in other widths and colours."""
    tab = open_tab(viewport={"width": 1280, "height": 900})
    tab.expected.append("404 (Not Found)")  # the page of a problem
    pages = explorer_pages(served.client)
    assert len(pages) == 14
    faults: dict[str, list[Any]] = {}
    for name, path in pages.items():
        tab.page.set_viewport_size({"width": 1280, "height": 900})
        faults[name] = layout_shifts(tab.page, path)
        for width in (1280, 390, 2560):
            tab.page.set_viewport_size({"width": width, "height": 900})
            if overflow(tab.page):
                faults[name].append(f"{overflow(tab.page)} pixels wider than a window of {width}")
            for scheme, background in BACKGROUNDS.items() if width != 2560 else ():
                if name not in ALL_COMBINATIONS and (width, scheme) not in ((1280, "light"), (390, "dark")):
                    continue
                tab.page.emulate_media(color_scheme=scheme)
                assert tab.page.evaluate("getComputedStyle(document.body).backgroundColor") == background
                of_width = () if (width, scheme) == (1280, "light") else WCAG_AA
                faults[name] += [f"{width} {scheme}: {rule}" for rule in serious_violations(tab.page, of_width)]
    assert {name: found for name, found in faults.items() if found} == {}


def test_long_and_right_to_left_labels_are_laid_out(tab: Any, served: Any):
    page = tab.page
    labels = [row["label"] for row in served.client.get("/v1/runs/drawn/labels").json()["items"]]
    for path in ("/runs/drawn", *(f"/runs/drawn/labels/{segment(label)}" for label in labels)):
        page.goto(path)
        for width in (360, 390, 2560):
            page.set_viewport_size({"width": width, "height": 900})
            assert (path, width, overflow(page)) == (path, width, 0)
            assert page.locator("h1").bounding_box()["width"] <= width
    arabic = next(label for label in labels if label.startswith("م"))
    page.goto(f"/runs/drawn/labels/{segment(arabic)}")
    heading = page.locator("h1 bdi")
    assert heading.inner_text() == arabic
    assert heading.evaluate("(node) => node.matches(':dir(rtl)')")


def test_pages_without_javascript(open_tab: Callable[..., Any], served: Any):
    tab = open_tab(java_script_enabled=False)
    tab.expected.append("404 (Not Found)")
    for path in explorer_pages(served.client).values():
        tab.page.goto(path)
        assert tab.page.locator("h1").inner_text()
        for panel in tab.page.locator("section.panel").all():
            assert "This panel needs JavaScript" in panel.inner_text()
            assert panel.locator("code").count(), path  # the command that does the same
