"""Sorting and rounding, compared with plain sorts; files read by other tools."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import duckdb
import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tegakari.schemas.errors import StoreError
from tegakari.store.blocks.activations import (
    Activations,
    ordered,
    read_feature,
    read_layer,
    rounded,
    write_activations,
)

TINY = np.finfo(np.float32).smallest_subnormal
HUGE = np.finfo(np.float32).max


def drawn(seed: int, *, features: int = 30, documents: int = 200, n: int = 900, values: int = 40) -> Activations:
    """Distinct (feature, document) pairs in random order; few values, so that many are tied."""
    rng = np.random.default_rng(seed)
    pairs = rng.permutation(features * documents)[:n]
    steps = rng.lognormal(size=values).astype(np.float32)
    return Activations(
        (pairs // documents).astype(np.int32), (pairs % documents).astype(np.int32), rng.choice(steps, n)
    )


@given(st.lists(st.floats(width=32, min_value=0, exclude_min=True, allow_infinity=False), min_size=1))
def test_rounding_is_that_of_float16_without_its_range(values: list[float]):
    exact = np.array(values, np.float32)
    values_rounded = rounded(exact)
    assert (values_rounded > 0).all()
    assert np.isfinite(values_rounded).all()
    assert (rounded(values_rounded) == values_rounded).all()
    normal = (exact >= np.finfo(np.float32).tiny) & (exact < HUGE * (1 - 2**-11))
    np.testing.assert_array_less(
        np.abs(values_rounded - exact.astype(np.float64))[normal],
        np.nextafter(exact[normal].astype(np.float64) * 2**-11, np.inf),
    )
    inside = (exact > 2**-14) & (exact < 65_000)  # where float16 has all its bits
    np.testing.assert_array_equal(values_rounded[inside], exact[inside].astype(np.float16).astype(np.float32))


def test_the_ends_of_the_range_stay_finite_and_positive():
    smallest, largest = rounded(np.array([TINY, HUGE], np.float32))
    assert 0 < smallest < 1e-40
    assert largest > 3.4e38


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), cuts=st.integers(1, 6))
def test_parts_are_merged_in_order(seed: int, cuts: int):
    whole = drawn(seed)
    parts = [Activations(*columns) for columns in zip(*(np.array_split(c, cuts) for c in whole), strict=True)]
    merged = ordered(parts)
    order = np.lexsort((whole.document, whole.feature))
    np.testing.assert_array_equal(merged.feature, whole.feature[order])
    np.testing.assert_array_equal(merged.document, whole.document[order])
    np.testing.assert_array_equal(merged.activation, rounded(whole.activation[order]))


def test_no_activations_are_valid():
    assert len(ordered([]).feature) == 0
    empty = drawn(0, n=0)
    assert len(ordered([empty, empty]).document) == 0


def test_the_largest_numbers_fit_and_larger_ones_are_refused():
    feature, document = np.array([2**20 - 1], np.int32), np.array([2**26 - 1], np.int32)
    value = np.array([HUGE], np.float32)
    rows = ordered([Activations(feature, document, value)])
    assert (rows.feature, rows.document) == (feature, document)
    for too_large in (Activations(feature + 1, document, value), Activations(feature, document + 1, value)):
        with pytest.raises(StoreError, match="more than a layer can hold"):
            ordered([too_large])


def test_other_tools_read_the_file(tmp_path: Path):
    rows = ordered([drawn(1)])
    file = tmp_path / "a.parquet"
    write_activations(file, [rows], row_group=600)
    expected = list(zip(*(column.tolist() for column in rows), strict=True))
    assert duckdb.sql(f"SELECT feature, document, activation FROM '{file}'").fetchall() == expected
    assert [tuple(row.values()) for row in pq.read_table(file).to_pylist()] == expected
    groups = list(read_layer(file))
    assert [len(group.activation) for group in groups[:-1]] == [600] * (len(rows.activation) // 600)
    np.testing.assert_array_equal(np.concatenate([group.activation for group in groups]), rows.activation)


def test_the_file_does_not_depend_on_the_parts(tmp_path: Path):
    rows = ordered([drawn(1)])
    cuts = [0, 0, 1, 599, 600, 1300, 1300, len(rows.feature)]
    parts = [Activations(*(column[start:stop] for column in rows)) for start, stop in pairwise(cuts)]
    for name, divided in {"whole": [rows], "parts": parts, "none": [], "empty": [parts[0]]}.items():
        assert write_activations(tmp_path / name, divided, row_group=600) == sum(len(part.feature) for part in divided)
    assert (tmp_path / "parts").read_bytes() == (tmp_path / "whole").read_bytes()
    assert (tmp_path / "none").read_bytes() == (tmp_path / "empty").read_bytes()
    assert pq.read_metadata(tmp_path / "none").num_rows == 0


def test_a_feature_is_read_from_all_its_row_groups(tmp_path: Path):
    rows = ordered([drawn(2)])
    write_activations(tmp_path / "a.parquet", [rows], row_group=7)
    for feature in range(31):
        activations, expected = read_feature(tmp_path / "a.parquet", feature), rows.feature == feature
        np.testing.assert_array_equal(activations.document, rows.document[expected])
        np.testing.assert_array_equal(activations.activation, rows.activation[expected])


def test_an_activation_takes_less_than_three_bytes(tmp_path: Path):
    """At the study's density, ids and values together stay under 2.7 bytes."""
    rng = np.random.default_rng(0)
    documents, density = 12_650, np.minimum(rng.lognormal(0, 1.5, 300) * 0.018, 0.9)
    feature, document = np.nonzero(rng.random((300, documents), dtype=np.float32) < density[:, None])
    values = rng.lognormal(0, 0.7, len(feature)).astype(np.float32)
    rows = ordered([Activations(feature.astype(np.int32), document.astype(np.int32), values)])
    write_activations(tmp_path / "a.parquet", [rows])
    assert (tmp_path / "a.parquet").stat().st_size / len(feature) < 2.7
