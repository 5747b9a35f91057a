"""axe-core in a page of the browser."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from playwright.sync_api import Page

AXE = (Path(__file__).parents[1] / "browser" / "axe" / "axe.min.js").read_text(encoding="utf-8")


def serious_violations(page: Page) -> list[str]:
    """A sentence per rule of axe that the page breaks with an impact of serious or critical."""
    page.evaluate(AXE)
    result: dict[str, Any] = page.evaluate("axe.run({ resultTypes: ['violations'] })")
    assert len(result["passes"]) > 5
    return [
        f"{rule['id']}: {rule['help']}: {[node['html'][:150] for node in rule['nodes'][:3]]}"
        for rule in result["violations"]
        if rule["impact"] in ("serious", "critical")
    ]
