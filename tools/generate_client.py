"""The synchronous client, generated from the asynchronous one: `python -m tools.generate_client`.

The syntax tree loses asyncio (`async`, `await`, names), and the linter and the formatter do the rest: imports in order,
`list(self)` for a comprehension that copies, lines joined that have become short.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import libcst as cst
from libcst import matchers
from libcst.matchers import leave

from tools.generated import ROOT, main

SOURCE = ROOT / "tegakari" / "client" / "_async.py"
TARGET = SOURCE.with_name("_sync.py")
COMMAND = "python -m tools.generate_client"

NAMES = {
    # Python
    "__aenter__": "__enter__",
    "__aexit__": "__exit__",
    "__aiter__": "__iter__",
    "__anext__": "__next__",
    "StopAsyncIteration": "StopIteration",
    # httpx
    "aclose": "close",
    "aiter_lines": "iter_lines",
    "aread": "read",
}
"""Replacements of names; every other name loses a leading `Async`."""

MODULES = {"asyncio": "time"}
"""Replacements of modules: the client uses the `sleep` of asyncio and nothing else."""

WORDS = {"asynchronous": "synchronous", "async ": "", "await ": "", **NAMES}
"""Replacements in docstrings."""

FIXES = "I,C416,UP028"
"""Rules of the linter: order of imports, needless comprehension, `for` that could be `yield from`."""


class WithoutAsyncio(matchers.MatcherDecoratableTransformer):
    """Replaces every asynchronous node by the synchronous one. Comments and layout stay."""

    @leave(matchers.FunctionDef() | matchers.With() | matchers.For())
    def _make_statement_synchronous(self, _: cst.BaseStatement, node: cst.BaseStatement) -> cst.BaseStatement:
        return node.with_changes(asynchronous=None)

    @leave(matchers.CompFor())
    def _make_comprehension_synchronous(self, _: cst.CompFor, node: cst.CompFor) -> cst.CompFor:
        return node.with_changes(asynchronous=None)

    @leave(matchers.Await())
    def _drop_await(self, _: cst.Await, node: cst.Await) -> cst.BaseExpression:
        return node.expression  # without the parentheses of `(await x).y`, which belong to the node `await`

    @leave(matchers.Name())
    def _rename(self, _: cst.Name, node: cst.Name) -> cst.Name:
        return node.with_changes(value=(NAMES | MODULES).get(node.value, node.value.removeprefix("Async")))

    @leave(matchers.Expr(matchers.SimpleString()))
    def _reword_docstring(self, _: cst.Expr, node: cst.Expr) -> cst.Expr:
        docstring = cst.ensure_type(node.value, cst.SimpleString)
        text = re.sub(r"\bAsync(?=[A-Z])", "", docstring.value)
        text = re.sub("|".join(rf"\b{word}" for word in WORDS), lambda match: WORDS[match[0]], text)
        return node.with_changes(value=docstring.with_changes(value=text))


def generated_client() -> dict[Path, str]:
    """Path -> content of the synchronous client."""
    header = f"# Generated from {SOURCE.name} by `{COMMAND}`: change {SOURCE.name}, not this file.\n"
    return {TARGET: header + synchronous(SOURCE.read_text(encoding="utf-8"))}


def synchronous(source: str) -> str:
    """A module without asyncio, formatted."""
    tree = cst.parse_module(source).visit(WithoutAsyncio())
    return _ruff("format", text=_ruff("check", "--fix-only", "--unsafe-fixes", f"--select={FIXES}", text=tree.code))


def _ruff(*arguments: str, text: str) -> str:
    command = [sys.executable, "-m", "ruff", *arguments, "--quiet", "--stdin-filename", str(TARGET), "-"]
    return subprocess.run(command, input=text, stdout=subprocess.PIPE, encoding="utf-8", check=True).stdout


if __name__ == "__main__":
    main(generated_client, COMMAND)
