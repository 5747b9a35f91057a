"""The mapped statistics are those of the drawn activations, computed again in plain NumPy."""

from __future__ import annotations

import numpy as np

from tegakari.schemas.config import POOLINGS
from tegakari.store import Run
from tests.support.factories import UNEVEN_COUNTS, random_case


def test_statistics_are_those_of_the_drawn_activations(uneven_run: Run):
    case = random_case(documents_per_label=UNEVEN_COUNTS)
    document_labels = np.array([document.label_id for document in case.documents])
    for layer in uneven_run.manifest.saes.layers:
        places = uneven_run.blocks.places.slice_of(layer)
        for pooling in POOLINGS:
            pooled = case.pooled(layer, pooling).astype(np.float64)
            for label_id, count in enumerate(UNEVEN_COUNTS):
                expected = pooled[document_labels == label_id]
                mean = uneven_run.blocks.statistics["mean", pooling][label_id, places]
                active = uneven_run.blocks.documents_active[pooling][label_id, places]
                np.testing.assert_array_equal(active, (expected > 0).sum(0))
                if count == 0:
                    assert np.isnan(mean).all()
                    continue
                alive = ~np.isnan(mean)
                np.testing.assert_allclose(mean[alive], expected.mean(0)[alive], rtol=1e-6, atol=1e-7)
                if count > 1:
                    sd = uneven_run.blocks.statistics["sd", pooling][label_id, places]
                    np.testing.assert_allclose(sd[alive], expected.std(0, ddof=1)[alive], rtol=1e-5, atol=1e-6)


def test_moments_of_all_documents_are_those_of_the_drawn_activations(uneven_run: Run):
    case = random_case(documents_per_label=UNEVEN_COUNTS)
    for layer in uneven_run.manifest.saes.layers:
        places = uneven_run.blocks.places.slice_of(layer)
        for pooling in POOLINGS:
            pooled = case.pooled(layer, pooling).astype(np.float64)
            columns = uneven_run.blocks.features
            np.testing.assert_allclose(columns[f"mean_{pooling}"][places], pooled.mean(0), rtol=1e-6)
            np.testing.assert_allclose(columns[f"sd_{pooling}"][places], pooled.std(0, ddof=1), rtol=1e-6)
