"""CONTRIBUTING.md and docs/design.md name files that exist; the tree of docs/design.md has every sub-package."""

from __future__ import annotations

import re
from pathlib import Path

from tools.generated import ROOT

CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
DESIGN = (ROOT / "docs" / "design.md").read_text(encoding="utf-8")
PLACEHOLDER = re.compile(r"NAME|SLUG|site/")


def test_contributing_names_files_that_exist():
    paths = [path for path in re.findall(r"`([\w./-]+/[\w./-]*)`", CONTRIBUTING) if not PLACEHOLDER.search(path)]
    assert len(paths) > 50
    assert [path for path in paths if not (ROOT / path).exists()] == []


def tree() -> list[tuple[Path, str]]:
    """(directory of the package, line) of the tree in docs/design.md."""
    block = re.search(r"## Tree\n+```\n(.*?)```", DESIGN, re.DOTALL)
    assert block
    directory, lines = ROOT, []
    for line in block[1].splitlines():
        if package := re.match(r"( *)(\w+)/ ", line):
            parent = ROOT / "tegakari" if package[1] else ROOT
            if len(package[1]) <= 2:
                directory = parent / package[2]
        lines.append((directory, line))
    return lines


def test_the_tree_names_files_that_exist():
    missing = [
        name
        for directory, line in tree()
        for name in re.findall(r"(?<!\S)([\w/]+(?:\.py|/))(?=\s|;|,|$)", line)
        if not any((start / name).exists() for start in (ROOT, ROOT / "tegakari", directory))
    ]
    assert missing == []


def test_every_sub_package_is_in_the_tree():
    lines = tree()
    for init in (ROOT / "tegakari").glob("*/*/__init__.py"):
        package, name = init.parent.parent, init.parent.name
        assert any(directory == package and f"{name}/" in line for directory, line in lines), init.parent


def test_earlier_names_lead_to_files_that_exist():
    table = DESIGN.partition("### Earlier names")[2].partition("\n### ")[0]
    rows = re.findall(r"^\| (.*?) \| (.*?) \|$", table, re.MULTILINE)[2:]
    assert len(rows) > 25
    missing = []
    for earlier, current in rows:
        directory = "analyses/*" if "of an analysis" in earlier else ""
        for name in re.findall(r"`([\w/.]+)`", current):
            path = name if "/" in name else f"{directory}/{name}"
            directory = path.rpartition("/")[0]
            if not any(list(start.glob(path.rstrip("/"))) for start in (ROOT / "tegakari", ROOT)):
                missing.append(path)
    assert missing == []
