"""The page of a feature: its contexts with their activations, and its explanations, here and wherever it is listed."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from html import unescape
from pathlib import Path
from typing import NamedTuple

import pytest
from litestar.testing import TestClient

from tegakari.schemas.api import FeatureContext
from tegakari.schemas.explanations import NewExplanation, VoteChange
from tegakari.service.explorer.contexts import STRONGEST_SHOWN, Context, ContextToken, shown_context
from tegakari.store import Run, Store, queries
from tegakari.store.contexts import STRONGEST
from tegakari.store.disk.layout import CONTEXTS
from tegakari.store.explanations import vote, write_explanation
from tests.support.factories import LABELS, make_run
from tests.support.service import client_of, segment

HOSTILE = "</bdi><script>alert(1)</script> 軽トラ"


class Drawn(NamedTuple):
    """A drawn run, and its feature of largest d for the first label."""

    client: TestClient
    run: Run
    layer: int
    feature: int

    @property
    def path(self) -> str:
        return f"/runs/drawn/layers/{self.layer}/features/{self.feature}"


@pytest.fixture
def drawn(tmp_path: Path) -> Iterator[Drawn]:
    make_run(tmp_path, "drawn")
    run = Store(tmp_path).run("drawn")
    row = queries.label_features(run, LABELS[0], limit=1).items[0]
    with client_of(tmp_path) as client:
        yield Drawn(client, run, row.layer, row.feature)


def windows(html: str) -> list[str]:
    return re.findall(r'<bdi class="post window" lang="ja">(.*?)</bdi>', html, flags=re.DOTALL)


def test_contexts_have_the_stored_activations_and_the_text_of_their_documents(drawn: Drawn):
    rows = queries.feature_contexts(drawn.run, drawn.layer, drawn.feature, limit=1000).items
    strongest = [row for row in rows if row.quantile == STRONGEST][:STRONGEST_SHOWN]
    sample = sorted((row for row in rows if row.quantile != STRONGEST), key=lambda row: (-row.quantile, row.rank))
    html = drawn.client.get(drawn.path).text
    shown = windows(html)
    assert len(shown) == len(strongest) + len(sample) > 10
    for window, row in zip(shown, [*strongest, *sample], strict=True):
        assert unescape(re.sub("<[^>]*>", "", window)).replace("⏎", "") == "".join(row.tokens)
        titles = [float(title) for title in re.findall('title="([^"]*)"', window)]
        assert titles == pytest.approx([value for value in row.activations if value > 0], abs=0.005)
        (peak,) = re.findall('peak" title="([^"]*)"', window)
        assert float(peak) == pytest.approx(row.activation, abs=0.005)
    tenths = [int(tenth) for tenth in re.findall(r"tenth (\d+) of 10", html)]
    assert tenths == sorted({row.quantile for row in sample}, reverse=True)


def test_the_pieces_of_a_character_are_one_token():
    row = FeatureContext(
        quantile=0,
        rank=1,
        activation=3.0,
        document="a",
        label="b",
        position=8,
        start=4,
        tokens=["", "車", "🚗", "", "", "。"],
        activations=[9.0, 1.0, 2.0, 0.0, 3.0, 0.5],
    )
    tokens = [("車", 1.0, False), ("🚗", 3.0, True), ("。", 0.5, False)]
    assert shown_context(row, 8) == Context("a", "b", 3.0, [ContextToken(*token) for token in tokens])
    assert shown_context(row, 1).tokens == [ContextToken(*token) for token in tokens[1:]]


def test_contexts_have_as_many_tokens_as_are_asked_for(drawn: Drawn):
    short, long = (windows(drawn.client.get(f"{drawn.path}?beside={beside}").text) for beside in (1, 8))
    assert all(window.count("<mark") <= 3 for window in short)
    assert sum(map(len, short)) < sum(map(len, long))
    assert drawn.client.get(f"{drawn.path}?beside=9").status_code == 400


def test_a_run_without_contexts_says_how_to_add_them(drawn: Drawn):
    shutil.rmtree(drawn.run.directory / CONTEXTS)
    response = drawn.client.get(drawn.path)
    assert response.status_code == 200
    assert "tegakari runs add-contexts drawn" in response.text
    assert windows(response.text) == []


def test_explanations_are_shown_as_text_wherever_the_feature_is_listed(drawn: Drawn):
    label = f"/runs/drawn/labels/{segment(LABELS[0])}"
    before = {path: drawn.client.get(path).headers["etag"] for path in (drawn.path, label)}
    write_explanation(drawn.run, drawn.layer, drawn.feature, "Bob", NewExplanation(text="Second best."))
    best = write_explanation(drawn.run, drawn.layer, drawn.feature, "Ann <b>", NewExplanation(text=HOSTILE))
    vote(drawn.run, drawn.layer, drawn.feature, best.id, "Cid", VoteChange(value=1))
    for path, tag in before.items():
        response = drawn.client.get(path, headers={"If-None-Match": tag})
        assert response.status_code == 200, path
        assert HOSTILE in unescape(response.text)
        assert response.text.count("<script") == 1
    page = drawn.client.get(drawn.path).text
    assert page.index("Ann &lt;b&gt;") < page.index("Second best.")
    assert "+1 −0" in page
    assert "Second best." not in drawn.client.get(label).text
    found = drawn.client.get("/search", params={"run": "drawn", "q": "second"}).text
    assert "Second best." in found
    assert drawn.path in found
