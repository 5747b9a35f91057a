"""The examples of docs/client.md run, one after another, against a real server."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

PAGE = (Path(__file__).parents[2] / "docs" / "client.md").read_text(encoding="utf-8")
ADDRESS = "http://127.0.0.1:8765"


def test_the_examples_run(address: str, capsys: pytest.CaptureFixture[str]):
    blocks = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert len(blocks) >= 8
    names: dict[str, object] = {}
    for block in blocks:
        exec(compile(block.replace(ADDRESS, address), "docs/client.md", "exec"), names)
    printed = capsys.readouterr().out
    assert "demo-jpn" in printed
    assert "409 model-not-here" in printed  # the drawn run of the tests has no model


def test_every_method_named_is_there():
    from tegakari.client import Client, Pages

    for name in re.findall(r"`pages\.(\w+)", PAGE):
        assert hasattr(Pages, name), name
    for name in re.findall(r"client\.(\w+)\(", PAGE):
        assert hasattr(Client, name), name
