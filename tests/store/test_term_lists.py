"""Deterministic explanations and those of people in the same lists, searches, votes and tables."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tegakari.analyses.add_explanations import add_explanations
from tegakari.analyses.explanations.excerpts import feature_excerpts
from tegakari.analyses.explanations.score_explanations import score_by_terms
from tegakari.schemas.errors import QueryError
from tegakari.schemas.explanations import Explanation, NewExplanation, VoteChange
from tegakari.store import Run
from tegakari.store.contexts import feature_contexts
from tegakari.store.explanations import (
    best_explanations,
    delete_explanation,
    explanations,
    feature_explanations,
    vote,
    write_explanation,
)
from tegakari.store.export.tables import export_run
from tegakari.store.sql.query import run_query
from tests.support.planted_features import ALWAYS, CLUE, D_SAE, ENGLISH_CLUE, NEVER, ONCE, planted_run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    store = tmp_path_factory.mktemp("store")
    run = planted_run(store)
    add_explanations(run)
    for number in (CLUE, NEVER):
        write_explanation(run, 0, number, "Ann", NewExplanation(text="kei trucks 軽トラ"))
    return run


def pages(run: Run, limit: int, **filters: object) -> list[Explanation]:
    rows: list[Explanation] = []
    page = explanations(run, limit=limit, **filters)  # pyright: ignore[reportArgumentType]
    while True:
        rows += page.items
        if page.next is None:
            return rows
        page = explanations(run, limit=limit, cursor=page.next, **filters)  # pyright: ignore[reportArgumentType]


def test_lists_join_both_and_are_the_same_whatever_the_size_of_a_page(run: Run):
    rows = pages(run, 1000)
    assert len(rows) == 2 * D_SAE + 2
    assert [(row.feature, row.language) for row in rows[:3]] == [(CLUE, "en"), (CLUE, "ja"), (CLUE, "ja")]
    assert [row.method for row in rows[:3]] == ["terms", "terms", "person"]
    for limit in (1, 3, 7):
        assert pages(run, limit) == rows
    assert (
        pages(run, 2, method="terms")
        == pages(run, 1000, author="tegakari")
        == [row for row in rows if row.method == "terms"]
    )
    assert pages(run, 2, language="ja") == [row for row in rows if row.language == "ja"]
    assert pages(run, 2, q="軽トラ") == [row for row in rows if "軽トラ" in row.text]
    assert {row.feature for row in pages(run, 2, q="COMPOST", method="terms")} >= {ENGLISH_CLUE}
    assert pages(run, 2, q="no such word") == pages(run, 2, layer=7) == []


def test_deterministic_explanations_are_scored_and_voted_on_and_stay(run: Run):
    (english, japanese) = (row for row in feature_explanations(run, 0, ENGLISH_CLUE) if row.method == "terms")
    assert score_by_terms(run, [english, japanese]).scored == 2
    scored = pages(run, 2, min_score=0.9)
    assert [row.id for row in scored] == [english.id, japanese.id]
    assert scored[0].score is not None
    assert scored[0].score > 0.9
    assert vote(run, 0, ENGLISH_CLUE, japanese.id, "Bob", VoteChange(value=1)).votes[0].author == "Bob"
    assert best_explanations(run, [(0, ENGLISH_CLUE)])[0, ENGLISH_CLUE].id == japanese.id
    vote(run, 0, ENGLISH_CLUE, japanese.id, "Bob", VoteChange(value=0))
    for language in ("en", "ja"):
        best = best_explanations(run, [(0, ENGLISH_CLUE), (0, CLUE)], language=language)
        assert best[0, ENGLISH_CLUE].language == language
        assert best[0, CLUE].author == "Ann"
    with pytest.raises(QueryError, match="part of its run"):
        delete_explanation(run, 0, ENGLISH_CLUE, english.id, "tegakari")


def test_explanations_are_a_table_of_sql_and_of_exports(run: Run, tmp_path: Path):
    rows = {row.id: row for row in pages(run, 1000)}
    vote(run, 0, CLUE, next(iter(rows)), "Bob", VoteChange(value=-1))
    table = run_query(run.store, [run.name], "FROM explanations").read_all().to_pylist()
    assert {row["id"] for row in table} == rows.keys()
    for row in table:
        expected = rows[row["id"]]
        assert (row["run"], row["text"], row["language"]) == (run.name, expected.text, expected.language)
        assert (row["method"], row["author"], row["created"]) == (expected.method, expected.author, expected.created)
        assert row["terms"] == [term.word for term in expected.terms]
        assert row["score"] == pytest.approx(expected.score)
        assert row["votes_against"] == (row["id"] == next(iter(rows)))
    counts = "SELECT method, count(*) AS n FROM explanations GROUP BY 1 ORDER BY 1"
    counted = run_query(run.store, [run.name], counts).read_all().to_pylist()
    assert counted == [{"method": "person", "n": 2}, {"method": "terms", "n": 2 * D_SAE}]
    assert export_run(run, tmp_path / "exported", tables=["explanations"]) == {"explanations": len(rows)}
    assert pq.read_table(tmp_path / "exported" / "explanations.parquet").num_rows == len(rows)


def test_excerpts_of_a_feature_that_is_active_once_never_or_always(run: Run):
    excerpts = {
        feature: feature_excerpts(run, feature, feature_contexts(run, 0, feature), 20)
        for feature in (NEVER, ONCE, ALWAYS, CLUE)
    }
    assert excerpts[NEVER] == []
    (once,) = excerpts[ONCE]
    assert once.active.endswith(" 10")
    assert once.text.count("<<") == once.text.count(">>") == 1
    assert len(excerpts[ALWAYS]) == len(excerpts[CLUE]) == 20
    for excerpt in excerpts[CLUE]:
        assert "<<軽トラ>>" in excerpt.text
        assert excerpt.active.startswith('"軽トラ" ')
    levels = [int(excerpt.active.split(",")[0].split()[-1]) for excerpt in excerpts[CLUE]]
    assert levels == sorted(levels, reverse=True)
    assert (levels[0], min(levels) < 8) == (10, True)
