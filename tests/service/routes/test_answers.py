"""Every route against an independent computation on what the run was drawn from."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from litestar.testing import TestClient
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

from tegakari.schemas.config import POOLINGS, Pooling
from tests.service.conftest import RUN, UNEVEN, UNEVEN_DOCUMENTS, get, segment
from tests.support.factories import LABELS, TOP_TOKENS, Case


def owners(case: Case) -> np.ndarray:
    return np.array([document.label_id for document in case.documents])


def cohens_d(case: Case, layer: int, pooling: Pooling) -> np.ndarray:
    """float64 [labels, d_sae], straight from the definition."""
    pooled, own = case.pooled(layer, pooling).astype(np.float64), owners(case)
    d = []
    for label in range(len(case.labels)):
        mine, rest = pooled[own == label], pooled[own != label]
        freedom = len(mine) - 1, len(rest) - 1
        variance = (freedom[0] * mine.var(0, ddof=1) + freedom[1] * rest.var(0, ddof=1)) / sum(freedom)
        difference = mine.mean(0) - rest.mean(0)
        d.append(np.divide(difference, np.sqrt(variance), out=np.zeros_like(difference), where=variance > 0))
    return np.array(d)


def varieties(case: Case, layer: int, pooling: Pooling, cutoff: float = 1.0) -> np.ndarray:
    return (cohens_d(case, layer, pooling) > cutoff).sum(0)


def every_position(case: Case, layer: int) -> np.ndarray:
    return np.concatenate(case.activations[layer])


def test_runs_are_listed_by_name(client: TestClient):
    runs = get(client, "/v1/runs")
    assert [run["run"] for run in runs["items"]] == [RUN, UNEVEN]
    assert runs["next"] is None


def test_a_run_says_what_it_was_made_from(client: TestClient, case: Case):
    run = get(client, f"/v1/runs/{RUN}")
    assert run == next(item for item in get(client, "/v1/runs")["items"] if item["run"] == RUN)
    assert run["synthetic"] is True
    assert run["pooling"] == "last"
    assert run["positions"] == len(every_position(case, 0))
    assert run["corpus"]["documents"] == len(case.documents)
    assert run["saes"]["widths"] == [40, 40, 40]
    assert run["scores"]["accuracy"] == pytest.approx((owners(case) == case.predicted).mean())


def test_labels_have_the_classifiers_scores_and_their_features(client: TestClient, case: Case):
    rows = get(client, f"/v1/runs/{RUN}/labels")["items"]
    assert [row["label"] for row in rows] == list(LABELS)
    scores: Any = precision_recall_fscore_support(owners(case), case.predicted, labels=range(len(LABELS)))
    for name, expected in zip(("precision", "recall", "f1", "documents"), scores, strict=True):
        np.testing.assert_allclose([row[name] for row in rows], expected)
    for label, row in enumerate(rows):
        carried = [(cohens_d(case, layer, "last")[label] > 1, varieties(case, layer, "last")) for layer in range(3)]
        assert row["specific_features"] == sum(int((carries & (variety == 1)).sum()) for carries, variety in carried)
        assert row["shared_features"] == sum(int((carries & (variety > 1)).sum()) for carries, variety in carried)
    assert sum(row["specific_features"] for row in rows) > 6
    assert sum(row["shared_features"] for row in rows) > 2


@pytest.mark.parametrize("label", LABELS)
def test_a_label_says_where_its_documents_go(client: TestClient, case: Case, label: str):
    found = get(client, f"/v1/runs/{RUN}/labels/{segment(label)}")
    counts = confusion_matrix(owners(case), case.predicted, labels=range(len(LABELS)))[LABELS.index(label)]
    assert {item["predicted"]: item["documents"] for item in found["predictions"]} == {
        LABELS[other]: count for other, count in enumerate(counts.tolist()) if count
    }
    shown = [item["documents"] for item in found["predictions"]]
    assert shown == sorted(shown, reverse=True)
    row = next(row for row in get(client, f"/v1/runs/{RUN}/labels")["items"] if row["label"] == label)
    assert {name: found[name] for name in row} == row


@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("label", LABELS[:3])
def test_features_of_a_label_are_ranked_by_d(client: TestClient, case: Case, label: str, pooling: Pooling):
    rows = get(client, f"/v1/runs/{RUN}/labels/{segment(label)}/features", pooling=pooling, limit=1000)["items"]
    number = LABELS.index(label)
    mine = owners(case) == number
    keys = {(row["layer"], row["feature"]) for row in rows}
    assert len(rows) == len(keys)
    alive = {(layer, int(f)) for layer in range(3) for f in np.flatnonzero(every_position(case, layer).any(0))}
    assert keys == alive
    assert [(-row["d"], row["layer"], row["feature"]) for row in rows] == sorted(
        (-row["d"], row["layer"], row["feature"]) for row in rows
    )
    for row in rows:
        layer, feature = row["layer"], row["feature"]
        pooled = case.pooled(layer, pooling)[mine, feature].astype(np.float64)
        assert row["d"] == pytest.approx(cohens_d(case, layer, pooling)[number, feature], rel=1e-3, abs=1e-6)
        assert row["mean"] == pytest.approx(pooled.mean(), rel=1e-5, abs=1e-7)
        assert row["sd"] == pytest.approx(pooled.std(ddof=1), rel=1e-5, abs=1e-6)
        assert row["variety"] == varieties(case, layer, pooling)[feature]
        values = every_position(case, layer)[:, feature]
        assert row["density"] == pytest.approx((values > 0).mean())
        assert row["max_activation"] == pytest.approx(values.max())


@pytest.mark.parametrize(
    ("variety", "passes"),
    [("specific", lambda v: v == 1), ("shared", lambda v: v >= 2), ("0", lambda v: v == 0), ("2", lambda v: v == 2)],
)
def test_features_of_a_label_can_be_filtered(client: TestClient, variety: str, passes):
    path = f"/v1/runs/{RUN}/labels/{segment(LABELS[0])}/features"
    every = get(client, path, limit=1000)["items"]
    found = get(client, path, limit=1000, layer=2, min_d=0.25, variety=variety)["items"]
    assert found == [row for row in every if row["layer"] == 2 and row["d"] >= 0.25 and passes(row["variety"])]
    assert 0 < len(found) < len(every)


@pytest.mark.parametrize("pooling", POOLINGS)
def test_specificity_counts_features_by_variety(client: TestClient, case: Case, pooling: Pooling):
    rows = get(client, f"/v1/runs/{RUN}/specificity", pooling=pooling)["items"]
    assert [row["layer"] for row in rows] == [0, 1, 2]
    for row in rows:
        variety = varieties(case, row["layer"], pooling)
        assert (row["weak"], row["specific"], row["shared"]) == (
            (variety == 0).sum(),
            (variety == 1).sum(),
            (variety > 1).sum(),
        )
        assert row["features"] == len(variety)
        assert row["mean_variety"] == pytest.approx(variety.mean())
        assert row["l0"] == pytest.approx((every_position(case, row["layer"]) > 0).sum(1).mean())
        assert [high["cutoff"] for high in row["high_d"]] == [1, 1.5, 2, 3]
        for high in row["high_d"]:
            above = varieties(case, row["layer"], pooling, high["cutoff"])
            assert (high["features"], high["single_label"]) == ((above > 0).sum(), (above == 1).sum())
            share = high["single_label"] / high["features"] if high["features"] else None
            assert high["single_label_share"] == (pytest.approx(share) if share is not None else None)


@pytest.mark.parametrize("feature", [0, 1, 6, 20, 38, 39])
@pytest.mark.parametrize("pooling", POOLINGS)
def test_a_feature_with_its_labels_and_strongest_positions(
    client: TestClient, case: Case, feature: int, pooling: Pooling
):
    found = get(client, f"/v1/runs/{RUN}/layers/2/features/{feature}", pooling=pooling)
    values = every_position(case, 2)[:, feature]
    active = values > 0
    assert found["density"] == pytest.approx(active.mean())
    assert found["active_positions"] == active.sum()
    assert found["mean_activation"] == pytest.approx(values[active].mean() if active.any() else 0)
    assert found["max_activation"] == pytest.approx(values.max())
    assert found["pooling"] == pooling
    d = cohens_d(case, 2, pooling)[:, feature]
    assert found["variety"] == (d > 1).sum()
    if not active.any():
        assert found["labels"] == found["tokens"] == []
        return
    assert [row["label"] for row in found["labels"]] == [LABELS[label] for label in np.argsort(-d, kind="stable")]
    for row in found["labels"]:
        label = LABELS.index(row["label"])
        pooled = case.pooled(2, pooling)[owners(case) == label, feature].astype(np.float64)
        assert row["documents"] == len(pooled)
        assert row["d"] == pytest.approx(d[label], rel=1e-3, abs=1e-6)
        assert row["mean"] == pytest.approx(pooled.mean(), rel=1e-5, abs=1e-7)
        assert row["sd"] == pytest.approx(pooled.std(ddof=1), rel=1e-5, abs=1e-6)
    expected = sorted(
        (-float(activations[row, feature]), document.number, position)
        for document, activations in zip(case.documents, case.activations[2], strict=True)
        for row, position in enumerate(document.tokens.positions)
        if activations[row, feature] > 0
    )[:TOP_TOKENS]
    assert [row["rank"] for row in found["tokens"]] == list(range(1, len(expected) + 1))
    for row, (activation, number, position) in zip(found["tokens"], expected, strict=True):
        document = case.documents[number]
        start, end = document.tokens.spans[position]
        assert row["activation"] == pytest.approx(-activation)
        assert (row["document"], row["position"]) == (document.id, position)
        assert row["label"] == LABELS[document.label_id]
        assert row["token_id"] == document.tokens.input_ids[position]
        assert row["token"] == document.text[start:end]
        assert document.text.startswith(row["before"] + row["token"] + row["after"], max(0, start - 40))


def test_fewer_positions_can_be_asked_for(client: TestClient):
    path = f"/v1/runs/{RUN}/layers/0/features/0"
    every = get(client, path)["tokens"]
    assert len(every) == TOP_TOKENS
    assert get(client, path, tokens=3)["tokens"] == every[:3]
    assert get(client, path, tokens=0)["tokens"] == []


def test_labels_without_enough_documents_have_nulls_not_failures(client: TestClient):
    rows = {row["label"]: row for row in get(client, f"/v1/runs/{UNEVEN}/labels")["items"]}
    assert [rows[label]["documents"] for label in LABELS] == list(UNEVEN_DOCUMENTS)
    one, none = LABELS[1], LABELS[2]
    for label in (one, none):
        assert get(client, f"/v1/runs/{UNEVEN}/labels/{segment(label)}/features") == {"items": [], "next": None}
    assert get(client, f"/v1/runs/{UNEVEN}/labels/{segment(none)}")["predictions"] == []
    found = {row["label"]: row for row in get(client, f"/v1/runs/{UNEVEN}/layers/0/features/3")["labels"]}
    assert found[one]["d"] is found[one]["sd"] is None
    assert found[one]["mean"] is not None
    assert found[none]["mean"] is found[none]["d"] is None


def test_the_runs_own_pooling_is_the_default(client: TestClient):
    path = f"/v1/runs/{UNEVEN}/labels/{segment(LABELS[0])}/features"
    assert get(client, path) == get(client, path, pooling="max") != get(client, path, pooling="last")
