"""Labels, strongest positions and strongest documents of features are those of the tables and activation files."""

from __future__ import annotations

import duckdb
import pytest

from tegakari.schemas.api import FeatureLabel
from tegakari.schemas.config import POOLINGS
from tegakari.schemas.errors import NotFoundError, QueryError
from tegakari.store import Run, queries
from tegakari.store.disk.layout import layer_file


@pytest.mark.parametrize("pooling", POOLINGS)
def test_labels_of_every_feature_are_those_of_the_tables(uneven_run: Run, pooling):
    sql = (
        f"SELECT label, d_{pooling} AS cohens_d, mean_{pooling} AS mean, sd_{pooling} AS sd, "
        f"documents_active_{pooling} AS documents_active, documents FROM feature_labels "
        "JOIN labels USING (label_id) WHERE layer = $layer AND feature = $feature "
        f"ORDER BY cohens_d DESC NULLS LAST, CASE WHEN d_{pooling} IS NULL THEN 0 ELSE documents_active END DESC, "
        f"CASE WHEN d_{pooling} IS NULL THEN 0 ELSE mean END DESC, label_id"
    )
    for layer in uneven_run.manifest.saes.layers:
        for feature in range(uneven_run.manifest.saes.widths[layer]):
            detail = queries.feature(uneven_run, layer, feature, pooling=pooling, tokens=10)
            expected = uneven_run.rows(sql, {"layer": layer, "feature": feature})
            names = [name for name in FeatureLabel.__struct_fields__ if name != "cohens_d_unweighted"]
            assert [{name: getattr(row, name) for name in names} for row in detail.labels] == expected
            row = uneven_run.rows(
                f"SELECT density, active_positions, mean_activation, max_activation, variety_{pooling} AS variety "
                "FROM features WHERE layer = $layer AND feature = $feature",
                {"layer": layer, "feature": feature},
            )[0]
            assert {name: getattr(detail, name) for name in row} == row


def test_top_tokens_in_context_are_those_of_the_tables(uneven_run: Run):
    sql = (
        "SELECT rank, activation, d.id AS document, label, position, token_id, token, text, char_start, char_end "
        "FROM top_tokens JOIN documents d USING (document) JOIN labels USING (label_id) "
        "WHERE layer = $layer AND feature = $feature ORDER BY rank"
    )
    compared = 0
    for layer in uneven_run.manifest.saes.layers:
        for feature in range(uneven_run.manifest.saes.widths[layer]):
            detail = queries.feature(uneven_run, layer, feature, tokens=10)
            expected = uneven_run.rows(sql, {"layer": layer, "feature": feature})
            assert len(detail.tokens) == len(expected)
            for token, row in zip(detail.tokens, expected, strict=True):
                text, start, end = row.pop("text"), row.pop("char_start"), row.pop("char_end")
                assert {name: getattr(token, name) for name in row} == row
                assert (token.before, token.after) == (text[max(0, start - 40) : start], text[end : end + 40])
                compared += 1
    assert compared > 500


def test_strongest_documents_and_features_are_those_of_the_activation_files(uneven_run: Run):
    run, compared = uneven_run, 0
    for index, layer in enumerate(run.manifest.saes.layers):
        file = layer_file(run.directory, layer)
        rows = duckdb.sql(f"SELECT feature, document, activation FROM read_parquet('{file}')").fetchall()
        for feature in range(run.manifest.saes.widths[index]):
            expected = sorted((-value, document) for f, document, value in rows if f == feature)[:15]
            documents = queries.feature_documents(run, layer, feature, limit=15)
            ids = [run.blocks.documents.id[document].as_py() for _, document in expected]
            assert [row.document for row in documents] == ids
            assert [row.activation for row in documents] == [-value for value, _ in expected]
            assert [row.rank for row in documents] == list(range(1, len(documents) + 1))
            compared += len(documents)
        for document in range(run.manifest.corpus.documents):
            expected = sorted((-value, f) for f, d, value in rows if d == document)[:20]
            member, activation = (column[index, document] for column in run.blocks.top_features)
            assert [f for f in member.tolist() if f >= 0] == [f for _, f in expected]
            assert activation[: len(expected)].tolist() == [-value for value, _ in expected]
    assert compared > 200


def test_rows_of_documents_are_those_of_the_tables(uneven_run: Run):
    sql = (
        "SELECT id AS document, l.label, p.label AS predicted, text FROM documents JOIN labels l USING (label_id) "
        "JOIN labels p ON p.label_id = predicted_id"
    )
    expected = {row["document"]: row for row in uneven_run.rows(sql)}
    for document in queries.feature_documents(uneven_run, 0, 0):
        row = {name: getattr(document, name) for name in ("document", "label", "predicted", "text")}
        assert row == expected[document.document] | {"text": expected[document.document]["text"][:80]}


@pytest.mark.parametrize(("layer", "feature", "limit"), [(9, 0, 5), (0, 40, 5), (0, -1, 5)])
def test_documents_of_a_feature_that_does_not_exist_are_refused(uneven_run: Run, layer: int, feature: int, limit: int):
    with pytest.raises(NotFoundError):
        queries.feature_documents(uneven_run, layer, feature, limit=limit)


@pytest.mark.parametrize("limit", [0, 51])
def test_more_documents_than_are_stored_are_refused(uneven_run: Run, limit: int):
    with pytest.raises(QueryError, match="is not from 1 to 50"):
        queries.feature_documents(uneven_run, 0, 0, limit=limit)


def test_a_pooling_that_does_not_exist_is_refused(uneven_run: Run):
    with pytest.raises(QueryError, match="'sum' is not a pooling"):
        queries.feature(uneven_run, 0, 0, pooling="sum")
