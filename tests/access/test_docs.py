"""The examples of docs/python.md run, one after the other, over a drawn store and over a service."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import tegakari

PAGE = (Path(__file__).parents[2] / "docs" / "python.md").read_text(encoding="utf-8")
NEEDS_MODEL = "<!-- needs the run's model -->\n"
BLOCKS = re.findall(rf"({NEEDS_MODEL})?```python\n(.*?)```", PAGE, re.DOTALL)


def test_the_examples_run(store: tegakari.Store, capsys: pytest.CaptureFixture[str]):
    names: dict[str, object] = {}
    for needs_model, code in BLOCKS:
        if not needs_model:
            program = code.replace('tegakari.open("demo-work/store")', "STORE")
            exec(compile(program, "docs/python.md", "exec"), {"STORE": store, **names}, names)
    assert len(BLOCKS) > 4
    assert len(capsys.readouterr().out.splitlines()) > 20


def test_every_public_name_is_described():
    for name in tegakari.__all__:
        assert f"`{name}`" in PAGE, name
