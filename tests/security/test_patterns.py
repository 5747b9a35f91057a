"""No regular expression takes exponential time: none repeats without bound what repeats without bound."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from re import _constants as constants  # type: ignore[attr-defined]
from re import _parser as parser  # type: ignore[attr-defined]
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]

FUNCTIONS = {"compile", "search", "match", "fullmatch", "sub", "split", "findall", "finditer"}

REPEATS = (constants.MAX_REPEAT, constants.MIN_REPEAT, constants.POSSESSIVE_REPEAT)


def constant(node: ast.expr) -> str | None:
    """The text of a constant pattern; the variable parts of an f-string become one letter."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str | bytes):
        return node.value if isinstance(node.value, str) else node.value.decode("latin-1")
    if isinstance(node, ast.JoinedStr):
        return "".join(constant(part) or "a" for part in node.values)
    return None


def patterns() -> Iterator[tuple[str, str]]:
    """(place, pattern) of every constant regular expression: arguments of `re`, and `pattern` of schemas."""
    for file in sorted((ROOT / "tegakari").rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            place = f"{file.relative_to(ROOT)}:{getattr(node, 'lineno', 0)}"
            if isinstance(node, ast.Call):
                of_re = isinstance(node.func, ast.Attribute) and node.func.attr in FUNCTIONS
                named = isinstance(node.func, ast.Attribute) and isinstance(node.func.value, ast.Name)
                if of_re and named and node.func.value.id == "re" and node.args and (text := constant(node.args[0])):
                    yield place, text
                for keyword in node.keywords:
                    if keyword.arg == "pattern" and (text := constant(keyword.value)):
                        yield place, text
            if (
                isinstance(node, ast.Assign)
                and "_PATTERN" in ast.dump(node.targets[0])
                and (text := constant(node.value))
            ):
                yield place, text


def nested_repeats(tree: Any, *, inside: bool = False) -> Iterator[str]:
    """Unbounded repeats within unbounded repeats."""
    for operation, argument in tree:
        if operation in REPEATS:
            _, maximum, inner = argument
            unbounded = maximum == constants.MAXREPEAT
            if unbounded and inside:
                yield str(inner)
            yield from nested_repeats(inner, inside=inside or unbounded)
        elif operation is constants.BRANCH:
            for branch in argument[1]:
                yield from nested_repeats(branch, inside=inside)
        elif operation is constants.SUBPATTERN:
            yield from nested_repeats(argument[3], inside=inside)
        elif operation in (constants.ASSERT, constants.ASSERT_NOT):
            yield from nested_repeats(argument[1], inside=inside)
        elif operation is constants.ATOMIC_GROUP:
            yield from nested_repeats(argument, inside=inside)


ALL = list(patterns())


def test_the_patterns_are_found():
    texts = {text for _, text in ALL}
    assert len(texts) > 25
    assert any("tgk_" in text for text in texts)
    assert any("a-z0-9" in text for text in texts)


@pytest.mark.parametrize(
    ("text", "expected"), [("(a+)+", True), ("(a|b*)*c", True), ("a+b+", False), ("(a{1,3})+", False)]
)
def test_nested_repeats_are_recognized(text: str, expected: bool):
    assert bool(list(nested_repeats(parser.parse(text)))) == expected


@pytest.mark.parametrize(("place", "text"), ALL, ids=[place for place, _ in ALL])
def test_no_pattern_backtracks_exponentially(place: str, text: str):
    assert not list(nested_repeats(parser.parse(text))), place


def test_names_end_where_the_text_ends():
    """`$` also matches before a line break at the end: names that are parts of paths are compared as a whole."""
    from tegakari.store.disk.layout import is_run_name

    assert is_run_name("demo-jpn")
    for name in ("demo-jpn\n", "demo\n", "\ndemo", "demo\r", "demo\0", "ｄemo", "a" * 65, ""):
        assert not is_run_name(name)
    assert re.search("^[a-z]$", "a\n"), "why a search is not enough"
