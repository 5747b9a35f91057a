"""Hooks of mkdocs: pages of the site that lie outside docs/, and directories in the navigation.

In the site the repository is one tree with the content of docs/ at its root: docs/api.md is api.md,
tegakari/kernels/README.md keeps its path. Links are rewritten accordingly, so that the same link works in the
repository and in the site.
"""

from __future__ import annotations

import posixpath
import re
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parent.parent
RELATIVE_LINK = re.compile(r"(?<=\]\()(?![a-z]+:|[/#])[^)#\s]+")


def on_files(files: Files, config: MkDocsConfig) -> None:
    """Replace the entries of the navigation that name a page outside docs/ or all pages of a directory."""
    config.nav = [item for entry in config.nav or () for item in _items(entry, files, config)]


def _items(entry: Any, files: Files, config: MkDocsConfig) -> list[Any]:
    if isinstance(entry, dict):
        ((title, value),) = entry.items()
        if isinstance(value, str):
            return [{title: _page(value, files, config)}]
        return [{title: [item for child in value for item in _items(child, files, config)]}]
    if entry.endswith("/*"):
        return sorted(page.src_uri for page in files.documentation_pages() if fnmatch(page.src_uri, f"{entry}.md"))
    return [_page(entry, files, config)]


def _page(path: str, files: Files, config: MkDocsConfig) -> str:
    """The path of a page in the site; adds the page to the site if it lies outside docs/."""
    if not path.startswith("../"):
        return path
    path = path.removeprefix("../")
    files.append(File.generated(config, path, abs_src_path=str(ROOT / path)))
    return path


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Rewrite the relative links of a page. mkdocs checks afterwards that they lead somewhere."""
    site_path = page.file.src_uri
    path = site_path if page.file.generated_by else f"docs/{site_path}"

    def rewritten(link: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(posixpath.dirname(path), link[0]))
        return posixpath.relpath(target.removeprefix("docs/"), posixpath.dirname(site_path) or ".")

    return RELATIVE_LINK.sub(rewritten, markdown)
