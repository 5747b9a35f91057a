"""Routes of labels, against an independent computation on the case that the run is made from."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from litestar.testing import TestClient
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

from tegakari.schemas.config import POOLINGS, Pooling
from tests.support.definitions import activations_by_position, cohens_d, label_ids, varieties
from tests.support.factories import LABELS, Case
from tests.support.service import RUN, UNEVEN, UNEVEN_DOCUMENTS, get, segment


def test_labels_have_scores_and_counts_of_features(client: TestClient, case: Case):
    rows = get(client, f"/v1/runs/{RUN}/labels")["items"]
    assert [row["label"] for row in rows] == list(LABELS)
    scores: Any = precision_recall_fscore_support(label_ids(case), case.predicted, labels=range(len(LABELS)))
    for name, expected in zip(("precision", "recall", "f1", "documents"), scores, strict=True):
        np.testing.assert_allclose([row[name] for row in rows], expected)
    for label, row in enumerate(rows):
        carried = [(cohens_d(case, layer, "head")[label] > 1, varieties(case, layer, "head")) for layer in range(3)]
        assert row["specific_features"] == sum(int((carries & (variety == 1)).sum()) for carries, variety in carried)
        assert row["shared_features"] == sum(int((carries & (variety > 1)).sum()) for carries, variety in carried)
    assert sum(row["specific_features"] for row in rows) > 6
    assert sum(row["shared_features"] for row in rows) > 2


@pytest.mark.parametrize("label", LABELS)
def test_a_label_has_the_predictions_of_its_documents(client: TestClient, case: Case, label: str):
    detail = get(client, f"/v1/runs/{RUN}/labels/{segment(label)}")
    counts = confusion_matrix(label_ids(case), case.predicted, labels=range(len(LABELS)))[LABELS.index(label)]
    assert {item["predicted"]: item["documents"] for item in detail["predictions"]} == {
        LABELS[other]: count for other, count in enumerate(counts.tolist()) if count
    }
    counts_listed = [item["documents"] for item in detail["predictions"]]
    assert counts_listed == sorted(counts_listed, reverse=True)
    row = next(row for row in get(client, f"/v1/runs/{RUN}/labels")["items"] if row["label"] == label)
    assert {name: detail[name] for name in row} == row


@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("label", LABELS[:3])
def test_features_of_a_label_are_ranked_by_d(client: TestClient, case: Case, label: str, pooling: Pooling):
    rows = get(client, f"/v1/runs/{RUN}/labels/{segment(label)}/features", pooling=pooling, limit=1000)["items"]
    number = LABELS.index(label)
    of_label = label_ids(case) == number
    listed = {(row["layer"], row["feature"]) for row in rows}
    assert len(rows) == len(listed)
    active = {
        (layer, int(f)) for layer in range(3) for f in np.flatnonzero(activations_by_position(case, layer).any(0))
    }
    assert listed == active
    assert [(-row["cohens_d"], row["layer"], row["feature"]) for row in rows] == sorted(
        (-row["cohens_d"], row["layer"], row["feature"]) for row in rows
    )
    for row in rows:
        layer, feature = row["layer"], row["feature"]
        pooled = case.pooled(layer, pooling)[of_label, feature].astype(np.float64)
        assert row["cohens_d"] == pytest.approx(cohens_d(case, layer, pooling)[number, feature], rel=1e-3, abs=1e-6)
        assert row["mean"] == pytest.approx(pooled.mean(), rel=1e-5, abs=1e-7)
        assert row["sd"] == pytest.approx(pooled.std(ddof=1), rel=1e-5, abs=1e-6)
        assert row["variety"] == varieties(case, layer, pooling)[feature]
        values = activations_by_position(case, layer)[:, feature]
        assert row["density"] == pytest.approx((values > 0).mean())
        assert row["max_activation"] == pytest.approx(values.max())


@pytest.mark.parametrize(
    ("variety", "passes"),
    [("specific", lambda v: v == 1), ("shared", lambda v: v >= 2), ("0", lambda v: v == 0), ("2", lambda v: v == 2)],
)
def test_features_of_a_label_can_be_filtered(client: TestClient, variety: str, passes):
    path = f"/v1/runs/{RUN}/labels/{segment(LABELS[0])}/features"
    unfiltered = get(client, path, limit=1000)["items"]
    filtered = get(client, path, limit=1000, layer=2, min_cohens_d=0.25, variety=variety)["items"]
    assert filtered == [
        row for row in unfiltered if row["layer"] == 2 and row["cohens_d"] >= 0.25 and passes(row["variety"])
    ]
    assert 0 < len(filtered) < len(unfiltered)


def test_labels_with_too_few_documents_have_nulls(client: TestClient):
    rows = {row["label"]: row for row in get(client, f"/v1/runs/{UNEVEN}/labels")["items"]}
    assert [rows[label]["documents"] for label in LABELS] == list(UNEVEN_DOCUMENTS)
    single, empty = LABELS[1], LABELS[2]
    for label in (single, empty):
        assert get(client, f"/v1/runs/{UNEVEN}/labels/{segment(label)}/features") == {"items": [], "next": None}
    assert get(client, f"/v1/runs/{UNEVEN}/labels/{segment(empty)}")["predictions"] == []
    labels_of_feature = {row["label"]: row for row in get(client, f"/v1/runs/{UNEVEN}/layers/0/features/3")["labels"]}
    assert labels_of_feature[single]["cohens_d"] is labels_of_feature[single]["sd"] is None
    assert labels_of_feature[single]["mean"] is not None
    assert labels_of_feature[empty]["mean"] is labels_of_feature[empty]["cohens_d"] is None


def test_the_pooling_of_the_run_is_the_default(client: TestClient):
    path = f"/v1/runs/{UNEVEN}/labels/{segment(LABELS[0])}/features"
    assert get(client, path) == get(client, path, pooling="max") != get(client, path, pooling="head")
