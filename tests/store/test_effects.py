"""Label effects of a run, as stored and as read; what is not there is an error that says what to do."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from tegakari.schemas.errors import NotFoundError, StoreError
from tegakari.store import Run, Store, effects, queries
from tegakari.store.disk.layout import EFFECTS, additions_directory, effect_file
from tests.support.factories import LABELS, UNEVEN_COUNTS, make_run, random_case, random_effects

CASE = random_case(documents_per_label=UNEVEN_COUNTS)
ROUNDING = 2.0**-11


@pytest.fixture
def run(tmp_path: Path) -> Run:
    make_run(tmp_path, "drawn", documents_per_label=UNEVEN_COUNTS)
    return Store(tmp_path).run("drawn")


def close(values: object, expected: np.ndarray) -> bool:
    return np.allclose(np.asarray(values), expected, rtol=ROUNDING, atol=0)


def test_effects_are_read_as_they_were_written(run: Run):
    assert effects.effect_layers(run) == [0, 1, 2]
    for layer in (0, 2):
        expected = random_effects(CASE, layer)
        assert close(effects.layer_effects(run, layer), expected)
        for feature in (0, 39):
            assert close(effects.feature_effects(run, layer, feature), expected[:, feature])
        for label_id in (0, len(LABELS) - 1):
            assert close(effects.label_effects(run, layer, label_id), expected[label_id])


def test_zero_stays_zero(tmp_path: Path):
    effects.write_effects(tmp_path, 0, [np.array([0.0, -0.1, 1e-30], np.float32)])
    stored = pq.ParquetFile(effect_file(tmp_path, 0)).read()["effect"].to_numpy()
    assert stored[0] == 0
    assert close(stored[1:], np.array([-0.1, 1e-30]))


def test_labels_of_a_feature_are_in_order_from_both_ends(run: Run):
    expected = random_effects(CASE, 1)[:, 5]
    by_effect = [LABELS[label] for label in np.argsort(expected)]
    largest = queries.feature_effects(run, 1, 5, limit=4)
    rest = queries.feature_effects(run, 1, 5, limit=4, cursor=largest.next)
    assert [row.label for row in (*largest.items, *rest.items)] == by_effect[::-1]
    assert rest.next is None
    smallest = queries.feature_effects(run, 1, 5, order="smallest").items
    assert [row.label for row in smallest] == by_effect
    assert close([row.effect for row in smallest], np.sort(expected))


def test_features_of_a_label_are_those_that_are_ever_active(run: Run):
    active = run.blocks.features["active_positions"].reshape(3, -1) > 0
    assert not active.all()
    stacked = np.stack([random_effects(CASE, layer)[2] for layer in range(3)])
    for only in (None, 1):
        mask = active.copy()
        if only is not None:
            mask[np.arange(3) != only] = False
        expected = sorted(
            ((float(stacked[place]), *map(int, place)) for place in zip(*np.nonzero(mask), strict=True)), reverse=True
        )
        rows, cursor = [], None
        while not rows or cursor:
            page = queries.label_effects(run, LABELS[2], layer=only, limit=17, cursor=cursor)
            rows += page.items
            cursor = page.next
        assert [(row.layer, row.feature) for row in rows] == [(layer, feature) for _, layer, feature in expected]
        assert close([row.effect for row in rows], np.array([effect for effect, *_ in expected]))
    (row,) = queries.label_effects(run, LABELS[2], order="smallest", limit=1).items
    detail = queries.feature(run, row.layer, row.feature)
    assert row.cohens_d == next(label.cohens_d for label in detail.labels if label.label == LABELS[2])
    assert (row.variety, row.density, row.max_activation) == (detail.variety, detail.density, detail.max_activation)


def test_effects_that_were_added_are_those_of_the_run(run: Run):
    directory = run.directory / EFFECTS
    additions = additions_directory(run.store, run.manifest)
    additions.mkdir(parents=True)
    shutil.move(directory, additions / EFFECTS)
    assert close(effects.feature_effects(run, 0, 3), random_effects(CASE, 0)[:, 3])


def test_a_run_without_effects_names_the_command_that_adds_them(run: Run):
    shutil.rmtree(run.directory / EFFECTS)
    for query in (lambda: queries.feature_effects(run, 0, 1), lambda: queries.label_effects(run, LABELS[0])):
        with pytest.raises(NotFoundError, match="no label effects") as failure:
            query()
        assert "tegakari runs add-contexts drawn" in (failure.value.fix or "")


def test_a_layer_without_effects_is_named_and_left_out(run: Run):
    shutil.rmtree(effect_file(run.directory, 0).parent)
    with pytest.raises(NotFoundError, match="layer 0") as failure:
        queries.feature_effects(run, 0, 1)
    assert failure.value.fix == "use one of the layers 1, 2"
    assert {row.layer for row in queries.label_effects(run, LABELS[0], limit=1000).items} == {1, 2}


@pytest.mark.parametrize("damage", ["order", "rows", "columns", "values"])
def test_a_damaged_file_is_refused(run: Run, damage: str):
    file = effect_file(run.directory, 1)
    table = pq.ParquetFile(file).read()
    if damage == "order":
        table = table.sort_by([("feature", "ascending"), ("label_id", "ascending")])
    elif damage == "rows":
        table = table.slice(40)
    elif damage == "columns":
        table = table.rename_columns(["label_id", "feature", "value"])
    else:
        table = table.set_column(2, table.schema.field(2), [np.full(len(table), np.nan, np.float32)])
    pq.write_table(table, file, row_group_size=40)
    with pytest.raises(StoreError):
        effects.feature_effects(run, 1, 0)
