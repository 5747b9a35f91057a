"""docs/security.md names tests that exist, and every file of tests of attacks."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from tests.support.hostile_runs import HOSTILE_RUNS

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
NAMED = re.findall(r"`([\w/]+\.py)(?:::(\w+)(?:\[([^\]]*)\])?)?` \|$", PAGE, re.M)


def test_there_are_enough_rows_and_runs():
    assert len(set(NAMED)) >= 110
    assert len(HOSTILE_RUNS) >= 100


@pytest.mark.parametrize(("file", "test", "parameter"), NAMED)
def test_every_row_names_a_test(file: str, test: str, parameter: str):
    tree = ast.parse((ROOT / "tests" / file).read_text(encoding="utf-8"))
    names = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    assert not test or test in names
    assert not parameter or parameter in HOSTILE_RUNS


def test_every_row_of_an_attack_ends_with_a_test():
    attacks = PAGE[PAGE.index("## Attacks and answers") :]
    rows = [line for line in attacks.splitlines() if line.startswith("| ") and "---" not in line]
    headings = [line for line in rows if line == "| attack | answer | test |"]
    assert len(rows) - len(headings) == len(NAMED)


def test_every_file_of_attacks_is_named():
    files = {path for folder in ("security", "fuzz") for path in (ROOT / "tests" / folder).glob("test_*.py")}
    named = {file for file, _, _ in NAMED}
    assert not {str(path.relative_to(ROOT / "tests")) for path in files} - named - {"security/test_docs.py"}
