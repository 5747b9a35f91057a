"""Route of the specificity of layers, against an independent computation."""

from __future__ import annotations

import pytest
from litestar.testing import TestClient

from tegakari.schemas.config import POOLINGS, Pooling
from tests.support.definitions import activations_by_position, varieties
from tests.support.factories import Case
from tests.support.service import RUN, get


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
        assert row["l0"] == pytest.approx((activations_by_position(case, row["layer"]) > 0).sum(1).mean())
        assert [high["cutoff"] for high in row["high_d"]] == [1, 1.5, 2, 3]
        for high in row["high_d"]:
            above = varieties(case, row["layer"], pooling, high["cutoff"])
            assert (high["features"], high["single_label_at_cutoff"]) == ((above > 0).sum(), (above == 1).sum())
            assert high["single_label"] == ((above > 0) & (variety == 1)).sum()
            share = high["single_label"] / high["features"] if high["features"] else None
            assert high["single_label_share"] == (pytest.approx(share) if share is not None else None)
