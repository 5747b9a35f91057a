"""Labels and their features are those of the tables, at any page size, with ties, filters and every pooling."""

from __future__ import annotations

import itertools

import pytest
from scipy.stats import binomtest

from tegakari.schemas.config import POOLINGS
from tegakari.store import Run, queries
from tests.support.factories import LABELS

LABEL_FEATURES = """
SELECT fl.layer, fl.feature, d_{p} AS cohens_d, fl.mean_{p} AS mean, fl.sd_{p} AS sd,
       documents_active_{p} AS documents_active, f.variety_{p} AS variety, density, max_activation, top_tokens
FROM feature_labels fl JOIN features f USING (layer, feature) JOIN labels USING (label_id)
WHERE label = $label AND d_{p} IS NOT NULL AND ($layer IS NULL OR layer = $layer)
  AND ($min_cohens_d IS NULL OR d_{p} >= $min_cohens_d) AND {filter}
ORDER BY d_{p} DESC, documents_active_{p} DESC, fl.mean_{p} DESC, fl.layer, fl.feature
"""


@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("layer", [None, 0, 2])
@pytest.mark.parametrize(
    ("variety", "condition"),
    [
        (None, "true"),
        ("specific", "f.variety_{p} = 1 AND d_{p} > 1.0"),
        ("shared", "f.variety_{p} > 1 AND d_{p} > 1.0"),
        (2, "f.variety_{p} = 2 AND d_{p} > 1.0"),
        (0, "f.variety_{p} = 0"),
    ],
)
@pytest.mark.parametrize("min_cohens_d", [None, 0.2])
def test_features_of_a_label_are_those_of_the_tables(uneven_run: Run, pooling, layer, variety, condition, min_cohens_d):
    for label in LABELS:
        sql = LABEL_FEATURES.format(p=pooling, filter=condition.format(p=pooling))
        expected = uneven_run.rows(sql, {"label": label, "layer": layer, "min_cohens_d": min_cohens_d})
        for size in (1, 7, 1000):
            if size == 1 and len(expected) > 40:
                continue
            rows, cursor = [], None
            while True:
                page = queries.label_features(
                    uneven_run,
                    label,
                    pooling=pooling,
                    layer=layer,
                    variety=variety,
                    min_cohens_d=min_cohens_d,
                    limit=size,
                    cursor=cursor,
                )
                assert len(page.items) <= size
                rows += page.items
                cursor = page.next
                if cursor is None:
                    break
            assert (
                [{name: getattr(row, name) for name in expected[0]} for row in rows] == expected
                if expected
                else (rows == [])
            )


def test_a_third_of_the_features_are_tied(uneven_run: Run):
    """The factory's layers 0 and 1 are equal, so every d of one is tied with the other's."""
    rows = queries.label_features(uneven_run, LABELS[0], limit=1000).items
    ties = sum(first.cohens_d == second.cohens_d for first, second in itertools.pairwise(rows))
    assert ties >= len(rows) // 3


def test_the_interval_of_f1_is_that_of_the_share_of_hits_among_documents_of_the_label_or_given_it(uneven_run: Run):
    rows = uneven_run.rows("SELECT label_id, predicted_id FROM documents")
    for number, label in enumerate(queries.labels(uneven_run)):
        either = [row for row in rows if number in row.values()]
        if not either:
            assert (label.f1_low, label.f1_high) == (None, None)
            continue
        hits = sum(row["label_id"] == row["predicted_id"] for row in either)
        share = binomtest(hits, len(either)).proportion_ci(method="wilson")
        assert label.f1 == pytest.approx(2 * hits / (len(either) + hits))
        assert label.f1_low == pytest.approx(2 * share.low / (1 + share.low))
        assert label.f1_high == pytest.approx(2 * share.high / (1 + share.high))
        assert label.f1_low <= label.f1 <= label.f1_high


def test_specific_and_shared_features_of_each_label_are_counted(uneven_run: Run):
    pooling = uneven_run.manifest.pooling
    sql = (
        f"SELECT label, count(*) FILTER (variety_{pooling} = 1)::INT AS specific_features, "
        f"count(*) FILTER (variety_{pooling} > 1)::INT AS shared_features FROM feature_labels JOIN features "
        f"USING (layer, feature) JOIN labels USING (label_id) WHERE d_{pooling} > 1.0 GROUP BY label"
    )
    expected = {row["label"]: (row["specific_features"], row["shared_features"]) for row in uneven_run.rows(sql)}
    assert sum(specific for specific, _ in expected.values()) > 5
    for row in queries.labels(uneven_run):
        assert (row.specific_features, row.shared_features) == expected.get(row.label, (0, 0))


def test_the_filters_specific_and_shared_list_as_many_features_as_the_label_counts(uneven_run: Run):
    others = 0
    for row in queries.labels(uneven_run):
        for variety, count in (("specific", row.specific_features), ("shared", row.shared_features)):
            listed = queries.label_features(uneven_run, row.label, variety=variety, limit=1000).items
            assert len(listed) == count
            assert all(feature.cohens_d > uneven_run.manifest.variety_threshold for feature in listed)
        others += len(queries.features(uneven_run, variety="specific", limit=1000).items) > row.specific_features
    assert others > 1  # features that are specific to another label exist, and are not listed
