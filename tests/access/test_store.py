"""The public Python API: the same objects over a directory and over a service."""

from __future__ import annotations

from pathlib import Path

import pytest

import tegakari
from tegakari.analyses.engine.model_loader import model_loader
from tegakari.analyses.specificity import specificity
from tegakari.analyses.study import study
from tegakari.schemas.analysis_kinds import result_of
from tegakari.schemas.errors import NotFoundError, QueryError
from tegakari.schemas.specificity import SpecificitySettings
from tegakari.schemas.study import StudySettings
from tegakari.store import Store as FileStore
from tegakari.store import queries
from tests.support.factories import LABELS

RUN = "demo-jpn"


@pytest.fixture
def run(store: tegakari.Store) -> tegakari.Run:
    return store[RUN]


def test_a_store_is_a_mapping_of_runs(store: tegakari.Store):
    assert list(store) == [RUN, "other"]
    assert len(store) == 2
    assert RUN in store
    assert [run.name for run in store.values()] == [RUN, "other"]
    with pytest.raises(KeyError, match=r"no run 'nope'.*demo-jpn, other"):
        store["nope"]


def test_a_store_that_does_not_exist_is_an_error(tmp_path: Path):
    with pytest.raises(NotFoundError, match="no store at"):
        tegakari.open(tmp_path / "nowhere")


def test_rows_are_those_of_the_queries(run: tegakari.Run, directory: Path):
    opened = FileStore(directory).run(RUN)
    assert list(run.labels()) == queries.labels(opened)
    label = LABELS[0]
    expected = queries.label_features(opened, label, layer=1, limit=1000).items
    assert list(run.label(label).features(layer=1)) == expected
    assert run.label(label).detail == queries.label(opened, label)
    assert run.feature(1, 3).detail == queries.feature(opened, 1, 3)
    assert list(run.feature(1, 3).tokens()) == queries.feature_tokens(opened, 1, 3, limit=1000).items
    assert list(run.feature(1, 3).contexts()) == queries.feature_contexts(opened, 1, 3, limit=1000).items
    assert list(run.feature(1, 3).documents()) == queries.feature_documents(opened, 1, 3)
    assert list(run.specificity()) == queries.specificity(opened)
    documents = run.documents()
    assert list(documents) == queries.documents(opened, limit=1000).items
    assert run.document(documents[0].document).detail == queries.document(opened, documents[0].document)
    neighbours = list(run.feature(1, 3).neighbours(limit=4))
    assert [row.feature for row in neighbours] == [
        row.feature for row in queries.feature_neighbours(opened, 1, 3, limit=4)
    ]


def test_variety_filters_by_number_of_labels(run: tegakari.Run):
    rows = list(run.features())
    assert {row.feature for row in run.features(variety="specific")} == {
        row.feature for row in rows if row.variety == 1
    }
    assert [row.variety for row in run.features(variety=0)] == [0] * sum(row.variety == 0 for row in rows)


def test_frames_hold_the_rows(run: tegakari.Run):
    rows = run.label(LABELS[0]).features(layer=0)
    pandas, polars, arrow = rows.to_pandas(), rows.to_polars(), rows.to_arrow()
    assert (
        pandas["cohens_d"].tolist()
        == polars["cohens_d"].to_list()
        == arrow["cohens_d"].to_pylist()
        == [row.cohens_d for row in rows]
    )
    assert arrow["top_tokens"].to_pylist() == [row.top_tokens for row in rows]
    assert [row["layer"] for row in rows.to_dicts()] == [0] * len(rows)


def test_empty_frames_keep_their_columns(run: tegakari.Run):
    empty = run.label(LABELS[0]).features(min_cohens_d=1e9).to_pandas()
    assert len(empty) == 0
    assert {"layer", "feature", "cohens_d", "top_tokens"} <= set(empty.columns)


def test_rows_fetch_no_more_than_they_need(directory: Path, monkeypatch: pytest.MonkeyPatch):
    cursors = []
    original = queries.features
    monkeypatch.setattr(queries, "features", lambda *a, **k: cursors.append(k["cursor"]) or original(*a, **k))
    monkeypatch.setattr("tegakari.access.local.PAGE_ROWS", 7)
    rows = tegakari.open(directory)[RUN].features()
    assert rows[3].feature == 3
    assert cursors == [None]
    assert [row.feature for row in rows[6:9]] == [6, 7, 8]
    assert len(cursors) == 2
    repr(rows)
    assert len(cursors) == 2
    assert rows[-1].layer == 2
    assert len(rows) == 120
    assert len(cursors) == -(-120 // 7)


def test_text_and_html_forms_name_what_they_show(store: tegakari.Store):
    run = store[RUN]
    assert repr(store).startswith("<Store ")
    assert "demo-jpn, other" in repr(store)
    assert repr(run).startswith("<Run demo-jpn: ")
    assert repr(run.label(LABELS[0])).startswith(f"<Label {LABELS[0]} of demo-jpn: ")
    assert repr(run.feature(0, 1)).startswith("<Feature 1 of layer 0 in demo-jpn: ")
    assert "layer=0" in repr(run.features())
    for thing in (store, run, run.label(LABELS[0]), run.features(), run.document(run.documents()[0].document)):
        assert "<" in thing._repr_html_()


def test_html_shades_tokens_by_activation_and_escapes_text(run: tegakari.Run):
    feature = run.feature(0, 1)
    html = feature._repr_html_()
    strongest = feature.detail.tokens[0]
    assert f'title="{strongest.activation:.3f}" style="background:rgba(255, 150, 50, 1.00)"' in html
    assert html.count("<span") == len(feature.detail.tokens)


def test_html_cannot_be_injected():
    from tegakari.access.html import table, tokens_in_context
    from tegakari.schemas.api import TopToken

    attack = "<script>alert(1)</script>"
    token = TopToken(
        rank=1,
        activation=1.0,
        document="a",
        label=attack,
        position=0,
        token_id=0,
        token=attack,
        before=attack,
        after=attack,
    )
    for html in (tokens_in_context([token]), table(attack, [{attack: attack}])):
        assert "<script" not in html
        assert html.count("&lt;script&gt;") >= 2


def test_sql_is_one_table(store: tegakari.Store):
    table = store.sql("SELECT run, count(*) AS n FROM labels WHERE run = $run GROUP BY run", {"run": RUN})
    assert table.to_pylist() == [{"run": RUN, "n": len(LABELS)}]
    with pytest.raises(tegakari.TegakariError):
        store.sql("SELECT nothing FROM nowhere")


def test_errors_are_tegakari_errors(run: tegakari.Run):
    for broken in (
        lambda: run.label("nope").detail,
        lambda: list(run.features(layer=9)),
        lambda: run.feature(0, 10**6).detail,
        lambda: run.document("nope").detail,
        run.circuit,
    ):
        with pytest.raises(tegakari.TegakariError):
            broken()


def test_a_wrong_pooling_is_an_error_before_anything_is_read(local: tegakari.Store):
    with pytest.raises(QueryError, match="median"):
        list(local[RUN].label(LABELS[0]).features(pooling="median"))  # pyright: ignore


def test_public_names_exist_and_nothing_else_is_listed():
    assert dir(tegakari) == sorted(tegakari.__all__)
    for name in tegakari.__all__:
        assert getattr(tegakari, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nope'"):
        tegakari.nope  # noqa: B018


def test_analyses_are_listed_selected_and_deleted(store: tegakari.Store, directory: Path):
    opened = FileStore(directory).run(RUN)
    few = specificity(opened, SpecificitySettings(permutations=20, seed=3))
    (row,) = [row for row in store[RUN].analyses(kind="specificity") if row.settings_text == "permutations 20, seed 3"]
    assert row in list(store.analyses())
    assert not row.is_default
    assert [layer.chance for layer in store[RUN].specificity()] == [None] * len(few.layers)
    assert list(store[RUN].specificity(analysis=row.id)) == few.layers
    assert result_of(store.analysis(row.id)) == few
    with pytest.raises(Exception, match=f"{row.id}|compute it with"):
        store[RUN].circuit()
    store.delete_analysis(row.id)
    assert row.id not in {other.id for other in store.analyses()}


def test_figures_of_two_runs_are_compared_in_either_order(store: tegakari.Store, directory: Path):
    runs = [FileStore(directory).run(name) for name in (RUN, "other")]
    settings = StudySettings(skip=["circuit", "knockouts", "variants", "matching"])
    made = study(directory, runs, lambda run: model_loader(run, "cpu"), settings)
    (row,) = list(store.analyses(kind="study"))
    assert store.compare(RUN, "other", analysis=row.id).differences == made.differences
    turned = store.compare("other", RUN, analysis=row.id)
    assert [other.difference.value for other in turned.differences] == [
        -one.difference.value for one in made.differences
    ]


def test_notes_are_written_listed_and_deleted(run: tegakari.Run):
    feature = run.feature(2, 17)
    written = feature.write_note("軽トラ", tags=["車"], author="Ann")
    try:
        starred = feature.write_note(starred=True, author="Ann")
        assert (starred.text, starred.tags, starred.starred, starred.created) == (
            "軽トラ",
            ["車"],
            True,
            written.created,
        )
        assert list(feature.notes()) == [starred]
        assert list(run.notes(tag="車", starred=True, q="軽トラ", layer=2, author="Ann")) == [starred]
        assert list(run.notes(starred=False)) == []
        assert run.notes().to_pandas().text.tolist() == ["軽トラ"]
    finally:
        assert feature.delete_note(author="Ann").text == "軽トラ"
    assert list(run.notes()) == []


def test_a_wrong_note_names_its_field(run: tegakari.Run):
    with pytest.raises(tegakari.TegakariError) as raised:
        run.feature(2, 17).write_note(tags=["a,b"], author="Ann")
    assert raised.value.field == "tags[0]"


def test_the_author_in_a_directory_is_the_login_name(local: tegakari.Store, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("LOGNAME", "ann")
    feature = local[RUN].feature(2, 18)
    assert feature.write_note(starred=True).author == "ann"
    assert feature.delete_note().author == "ann"
