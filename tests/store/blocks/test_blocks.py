"""The mapped blocks and the tables give the same answers, at any page size, with ties, filters and every pooling."""

from __future__ import annotations

import itertools

import duckdb
import numpy as np
import pytest

from tegakari.schemas.config import POOLINGS
from tegakari.schemas.errors import CursorError, NotFoundError, QueryError
from tegakari.store import Store, queries
from tegakari.store.disk.layout import layer_file
from tegakari.store.reader import Run
from tests.support.factories import LABELS, make_run, random_case

COUNTS = (6, 5, 1, 7, 2, 0)
"""Documents of each label: one label has a single document, one has none."""


@pytest.fixture(scope="module", params=POOLINGS)
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Run:
    store = tmp_path_factory.mktemp("store")
    make_run(store, "drawn", documents_per_label=COUNTS, pooling=request.param)
    return Store(store).run("drawn")


BY_SQL = """
SELECT fl.layer, fl.feature, d_{p} AS d, mean_{p} AS mean, sd_{p} AS sd, f.variety_{p} AS variety, density,
       max_activation, top_tokens
FROM feature_labels fl JOIN features f USING (layer, feature) JOIN labels USING (label_id)
WHERE label = $label AND d_{p} IS NOT NULL AND ($layer IS NULL OR layer = $layer)
  AND ($min_d IS NULL OR d_{p} >= $min_d) AND {filter}
ORDER BY d_{p} DESC, layer, feature
"""


@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("layer", [None, 0, 2])
@pytest.mark.parametrize(
    ("variety", "condition"),
    [(None, "true"), ("specific", "f.variety_{p} = 1"), ("shared", "f.variety_{p} > 1"), (0, "f.variety_{p} = 0")],
)
@pytest.mark.parametrize("min_d", [None, 0.2])
def test_features_of_a_label_are_those_of_the_tables(run: Run, pooling, layer, variety, condition, min_d):
    for label in LABELS:
        sql = BY_SQL.format(p=pooling, filter=condition.format(p=pooling))
        expected = run.rows(sql, {"label": label, "layer": layer, "min_d": min_d})
        for size in (1, 7, 1000):
            if size == 1 and len(expected) > 40:
                continue
            found, cursor = [], None
            while True:
                page = queries.label_features(
                    run, label, pooling=pooling, layer=layer, variety=variety, min_d=min_d, limit=size, cursor=cursor
                )
                assert len(page.items) <= size
                found += page.items
                cursor = page.next
                if cursor is None:
                    break
            assert (
                [{name: getattr(row, name) for name in expected[0]} for row in found] == expected
                if expected
                else (found == [])
            )


def test_ties_are_there_to_be_broken(run: Run):
    """The factory's layers 0 and 1 are equal, so every d of one is tied with the other's."""
    rows = queries.label_features(run, LABELS[0], limit=1000).items
    tied = sum(first.d == second.d for first, second in itertools.pairwise(rows))
    assert tied >= len(rows) // 3


@pytest.mark.parametrize("pooling", POOLINGS)
def test_labels_of_every_feature_are_those_of_the_tables(run: Run, pooling):
    sql = (
        f"SELECT label, d_{pooling} AS d, mean_{pooling} AS mean, sd_{pooling} AS sd, documents FROM feature_labels "
        "JOIN labels USING (label_id) WHERE layer = $layer AND feature = $feature "
        f"ORDER BY d_{pooling} DESC NULLS LAST, label_id"
    )
    for layer in run.manifest.saes.layers:
        for feature in range(run.manifest.saes.widths[layer]):
            detail = queries.feature(run, layer, feature, pooling=pooling, tokens=10)
            expected = run.rows(sql, {"layer": layer, "feature": feature})
            assert [{name: getattr(row, name) for name in row.__struct_fields__} for row in detail.labels] == expected
            row = run.rows(
                f"SELECT density, active_positions, mean_activation, max_activation, variety_{pooling} AS variety "
                "FROM features WHERE layer = $layer AND feature = $feature",
                {"layer": layer, "feature": feature},
            )[0]
            assert {name: getattr(detail, name) for name in row} == row


def test_top_tokens_in_context_are_those_of_the_tables(run: Run):
    sql = (
        "SELECT rank, activation, d.id AS document, label, position, token_id, token, text, char_start, char_end "
        "FROM top_tokens JOIN documents d USING (document) JOIN labels USING (label_id) "
        "WHERE layer = $layer AND feature = $feature ORDER BY rank"
    )
    shown = 0
    for layer in run.manifest.saes.layers:
        for feature in range(run.manifest.saes.widths[layer]):
            detail = queries.feature(run, layer, feature, tokens=10)
            expected = run.rows(sql, {"layer": layer, "feature": feature})
            assert len(detail.tokens) == len(expected)
            for found, row in zip(detail.tokens, expected, strict=True):
                text, start, end = row.pop("text"), row.pop("char_start"), row.pop("char_end")
                assert {name: getattr(found, name) for name in row} == row
                assert (found.before, found.after) == (text[max(0, start - 40) : start], text[end : end + 40])
                shown += 1
    assert shown > 500


ACTIVATIONS_OF = "SELECT feature, document, activation FROM read_parquet('{file}')"


def test_strongest_documents_and_features_are_those_of_the_activation_files(run: Run):
    seen = 0
    for at, layer in enumerate(run.manifest.saes.layers):
        rows = duckdb.sql(ACTIVATIONS_OF.format(file=layer_file(run.directory, layer))).fetchall()
        for feature in range(run.manifest.saes.widths[at]):
            mine = sorted((-value, document) for f, document, value in rows if f == feature)
            found = queries.feature_documents(run, layer, feature, limit=15)
            ids = [run.blocks.documents.id[document].as_py() for _, document in mine[:15]]
            assert [row.document for row in found] == ids
            assert [row.activation for row in found] == [-value for value, _ in mine[:15]]
            assert [row.rank for row in found] == list(range(1, len(found) + 1))
            seen += len(found)
        for document in range(run.manifest.corpus.documents):
            mine = sorted((-value, f) for f, d, value in rows if d == document)[:20]
            member, activation = (column[at, document] for column in run.blocks.top_features)
            assert [f for f in member.tolist() if f >= 0] == [f for _, f in mine]
            assert activation[: len(mine)].tolist() == [-value for value, _ in mine]
    assert seen > 200


def test_a_document_of_a_feature_says_what_the_tables_say(run: Run):
    sql = (
        "SELECT id AS document, l.label, p.label AS predicted, text FROM documents JOIN labels l USING (label_id) "
        "JOIN labels p ON p.label_id = predicted_id"
    )
    expected = {row["document"]: row for row in run.rows(sql)}
    for row in queries.feature_documents(run, 0, 0):
        said = {name: getattr(row, name) for name in ("document", "label", "predicted", "text")}
        assert said == expected[row.document] | {"text": expected[row.document]["text"][:80]}


@pytest.mark.parametrize(("layer", "feature", "limit"), [(9, 0, 5), (0, 40, 5), (0, -1, 5)])
def test_documents_of_no_feature_are_refused(run: Run, layer: int, feature: int, limit: int):
    with pytest.raises(NotFoundError):
        queries.feature_documents(run, layer, feature, limit=limit)


@pytest.mark.parametrize("limit", [0, 51])
def test_more_documents_than_are_kept_are_refused(run: Run, limit: int):
    with pytest.raises(QueryError, match="is not from 1 to 50"):
        queries.feature_documents(run, 0, 0, limit=limit)


def test_carriers_of_each_label_are_counted(run: Run):
    own = run.manifest.pooling
    sql = (
        f"SELECT label, count(*) FILTER (variety_{own} = 1)::INT AS specific_features, "
        f"count(*) FILTER (variety_{own} > 1)::INT AS shared_features FROM feature_labels JOIN features "
        f"USING (layer, feature) JOIN labels USING (label_id) WHERE d_{own} > 1.0 GROUP BY label"
    )
    expected = {row["label"]: (row["specific_features"], row["shared_features"]) for row in run.rows(sql)}
    assert sum(specific for specific, _ in expected.values()) > 5
    for row in queries.labels(run):
        assert (row.specific_features, row.shared_features) == expected.get(row.label, (0, 0))


def test_statistics_are_those_of_the_drawn_activations(run: Run):
    """The whole way from activations to blocks, once more, in plain numpy."""
    case = random_case(documents_per_label=COUNTS)
    own = np.array([document.label_id for document in case.documents])
    for layer in run.manifest.saes.layers:
        where = run.blocks.places.slice_of(layer)
        for pooling in POOLINGS:
            pooled = case.pooled(layer, pooling).astype(np.float64)
            for label_id, count in enumerate(COUNTS):
                mine = pooled[own == label_id]
                found = run.blocks.statistics["mean", pooling][label_id, where]
                if count == 0:
                    assert np.isnan(found).all()
                    continue
                alive = ~np.isnan(found)
                np.testing.assert_allclose(found[alive], mine.mean(0)[alive], rtol=1e-6, atol=1e-7)
                if count > 1:
                    found = run.blocks.statistics["sd", pooling][label_id, where]
                    np.testing.assert_allclose(found[alive], mine.std(0, ddof=1)[alive], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("cursor", ["x", "!!!", "W10", "WyJhIiwxXQ", "\u3042", "A" * 10_000])
def test_forged_cursors_are_refused(run: Run, cursor: str):
    with pytest.raises(CursorError):
        queries.label_features(run, LABELS[0], cursor=cursor)


def test_a_cursor_belongs_to_its_question(run: Run):
    cursor = queries.label_features(run, LABELS[0], limit=2).next
    assert cursor
    with pytest.raises(CursorError):
        queries.label_features(run, LABELS[1], limit=2, cursor=cursor)
