"""Pictures of every page of the explorer, in three widths and both colour schemes: `python -m tools.screenshots`."""

from __future__ import annotations

import argparse
from pathlib import Path

import httpx

from tools.chromium import chromium
from tools.explorer_pages import explorer_pages

WIDTHS = (390, 1280, 2560)
SCHEMES = ("light", "dark")
HEIGHT = 900
"""of the window; a picture is as high as its page"""


def screenshots(base: str, directory: Path) -> list[Path]:
    """Write a picture of every page.

    Args:
        base: address of a service.
        directory: that receives `<page>-<width>-<scheme>.png`.

    Returns:
        The paths of the pictures.
    """
    directory.mkdir(parents=True, exist_ok=True)
    with httpx.Client(base_url=base, timeout=60) as client:
        pages = explorer_pages(client)
    paths = []
    with chromium() as browser:
        for width in WIDTHS:
            for scheme in SCHEMES:
                page = browser.new_page(
                    base_url=base, viewport={"width": width, "height": HEIGHT}, color_scheme=scheme, locale="en"
                )
                for name, path in pages.items():
                    page.goto(path, wait_until="networkidle")
                    for part in page.locator("[data-include]").all():
                        part.scroll_into_view_if_needed()  # it is included once it is in view
                        part.locator("[data-included]").wait_for()
                    page.evaluate("scrollTo(0, 0)")
                    paths.append(directory / f"{name}-{width}-{scheme}.png")
                    page.screenshot(path=paths[-1], full_page=True)
                page.close()
    return paths


def main() -> None:
    """Write the pictures of a service's pages."""
    parser = argparse.ArgumentParser(prog="python -m tools.screenshots")
    parser.add_argument("url", help="address of a running `tegakari serve`")
    parser.add_argument("directory", type=Path, help="directory that receives the pictures")
    arguments = parser.parse_args()
    for path in screenshots(arguments.url, arguments.directory):
        print(path)


if __name__ == "__main__":
    main()
