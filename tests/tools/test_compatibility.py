"""Every family of transformers' sequence classification works or is refused, as docs/compatibility.md says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tools.family_trial import Inputs, make_inputs, try_family
from tools.generate_compatibility import PAGE, row
from tools.tiny_families import FAMILIES


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Inputs:
    return make_inputs(tmp_path_factory.mktemp("families"))


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_is_right_or_refused_as_documented(family: str, inputs: Inputs, tmp_path: Path):
    assert row(family, try_family(family, inputs, tmp_path)) in PAGE.read_text(encoding="utf-8")


def test_the_page_has_every_family_once():
    families = re.findall(r"^\| `([\w-]+)` \| \w+ForSequenceClassification \|", PAGE.read_text(encoding="utf-8"), re.M)
    assert sorted(families) == sorted(FAMILIES)
