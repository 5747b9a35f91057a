"""An installed Chromium, driven by playwright, without a connection to other servers."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Browser, sync_playwright

COMMANDS = ("chromium", "chromium-browser", "google-chrome", "chrome")


def chromium_command() -> str | None:
    """Path of an installed Chromium; None: there is none."""
    return next(filter(None, map(shutil.which, COMMANDS)), None)


@contextmanager
def chromium() -> Iterator[Browser]:
    """A headless Chromium; its sandbox is off only for root, for whom it does not start with one.

    Raises:
        FileNotFoundError: no Chromium is installed.
    """
    command = chromium_command()
    if command is None:
        raise FileNotFoundError(f"no Chromium is installed: none of {', '.join(COMMANDS)} is on the PATH")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=command,
            chromium_sandbox=os.geteuid() != 0,
            args=["--disable-background-networking", "--disable-component-update"],
        )
        try:
            yield browser
        finally:
            browser.close()
