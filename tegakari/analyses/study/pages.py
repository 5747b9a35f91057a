"""Paths of the explorer's pages that a report leads to."""

from __future__ import annotations

from typing import NamedTuple
from urllib.parse import urlencode

from tegakari.schemas.segments import segment_of


class Linked(NamedTuple):
    """A text that leads to a page of the explorer."""

    text: str
    page: str
    """path of the page, such as `/runs/a`"""


def run_link(run: str) -> Linked:
    """Name of a run, which leads to its page."""
    return Linked(run, _run_page(run))


def label_link(run: str, label: str) -> Linked:
    """A label, which leads to its page in a run."""
    return Linked(label, f"{_run_page(run)}/labels/{segment_of(label)}")


def feature_link(run: str, layer: int, feature: int) -> Linked:
    """A feature as `layer:feature`, which leads to its page."""
    return Linked(f"{layer}:{feature}", f"{_run_page(run)}/layers/{layer}/features/{feature}")


def comparison_link(a: str, b: str) -> Linked:
    """The page of two runs side by side."""
    return Linked(f"{a} and {b} in the explorer", f"/compare?{urlencode([('run', a), ('run', b)])}")


def _run_page(run: str) -> str:
    return f"/runs/{segment_of(run)}"
