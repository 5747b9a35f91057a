"""axe-core in a page of the browser."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from playwright.sync_api import Page

AXE = (Path(__file__).parents[1] / "browser" / "axe" / "axe.min.js").read_text(encoding="utf-8")


WCAG_AA = ("wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa")
"""Tags of axe's rules that levels A and AA of WCAG 2.2 ask for; the others are best practice."""


def serious_violations(page: Page, tags: Sequence[str] = ()) -> list[str]:
    """A sentence per rule of axe that the page breaks with an impact of serious or critical.

    Args:
        page: whose document is checked.
        tags: only rules with one of these; default: all rules.
    """
    if not page.evaluate("typeof axe === 'object'"):
        page.evaluate(AXE)
    options = {"resultTypes": ["violations"]} | ({"runOnly": list(tags)} if tags else {})
    result: dict[str, Any] = page.evaluate("(options) => axe.run(options)", options)
    assert len(result["passes"]) > 5
    return [
        f"{rule['id']}: {rule['help']}: {[node['html'][:150] for node in rule['nodes'][:3]]}"
        for rule in result["violations"]
        if rule["impact"] in ("serious", "critical")
    ]
