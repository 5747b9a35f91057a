"""The loops of the merge against plain sorts, with many ties, over shards and ranges of features."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tegakari.indexer.candidates import Candidates
from tegakari.indexer.feature_ranges import feature_ranges
from tegakari.indexer.merge_loops import (
    ENTRY_BITS,
    fill_first_distinct,
    fill_places,
    merge_activations,
    select_candidates,
)
from tegakari.indexer.partial import (
    ACTIVATIONS,
    CANDIDATES,
    DocumentPartial,
    LayerPartial,
    Partial,
    open_partial,
    write_partial,
)
from tegakari.indexer.shard import IndexedDocument, plan_shards
from tegakari.indexer.strongest import bits_of, no_entries, strongest_entries, strongest_members
from tegakari.models.tokens import Tokenized
from tegakari.store.blocks.activations import Activations, ordered
from tegakari.store.blocks.files import TOP_FEATURES
from tests.support.plain_candidates import strongest_candidates

FEATURES, DOCUMENTS, POSITIONS = 30, 60, 4


def drawn() -> np.ndarray:
    """Activations [documents, positions, features]: few values, so that many are tied; some features never active."""
    rng = np.random.default_rng(0)
    values = rng.lognormal(size=9).astype(np.float32)
    shape = DOCUMENTS, POSITIONS, FEATURES
    activations = np.where(rng.random(shape) < rng.random(FEATURES), rng.choice(values, shape), 0)
    activations[:, :, [0, 7, FEATURES - 1]] = 0
    return activations.astype(np.float32)


@pytest.fixture(scope="module", params=[1, 13, DOCUMENTS], ids=lambda size: f"{size} documents per shard")
def partials(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[Partial]:
    directory: Path = tmp_path_factory.mktemp("partials")
    tokens = Tokenized([1] * POSITIONS, [(0, 1)] * POSITIONS, [False] * POSITIONS, False)
    documents = [IndexedDocument(number, str(number), number % 3, "eval", "t", tokens) for number in range(DOCUMENTS)]
    activations = drawn()
    shards = plan_shards(documents, request.param, "recipe")
    for shard in shards:
        numbers = np.array([document.number for document in shard.documents], np.int32)
        of_shard = activations[numbers]
        place, position, feature = np.nonzero(of_shard)
        candidates = Candidates(
            feature.astype(np.int32), of_shard[place, position, feature], numbers[place], position.astype(np.int32)
        )
        pooled = of_shard.max(1)
        row, active = np.nonzero(pooled)
        pairs = Activations(active.astype(np.int32), numbers[row], pooled[row, active])
        labels = np.zeros((len(shard.labels), 3, FEATURES))
        layer = LayerPartial(
            labels,
            labels,
            labels.astype(np.int32),
            (of_shard > 0).sum((0, 1)),
            of_shard.sum((0, 1), dtype=np.float64),
            strongest_candidates(candidates, 50),
            ordered([pairs]),
            outliers=0,
        )
        floats = np.zeros(len(numbers), np.float32)
        predictions = DocumentPartial(numbers, numbers, floats, floats, np.zeros((len(numbers), 2), np.float32))
        write_partial(directory, shard, POSITIONS * len(numbers), {5: layer}, predictions, {})
    return [open_partial(directory, shard.key) for shard in shards]


@pytest.mark.parametrize("memory", [1, 30_000, 2**28])
@pytest.mark.parametrize("n", [1, 7, 50])
def test_the_strongest_positions_are_those_of_a_sort(partials: list[Partial], n: int, memory: int):
    keys = no_entries(FEATURES, n)
    for features in feature_ranges(partials, 5, FEATURES, CANDIDATES, memory):
        activation, document, position = features.columns
        rows = document.astype(np.int64) * POSITIONS + position
        select_candidates(features.starts, bits_of(activation), rows, keys[features.start : features.stop])
    entry, activation = strongest_entries(keys)
    for feature, values in enumerate(drawn().transpose(2, 0, 1).reshape(FEATURES, -1)):
        order = np.argsort(-values, kind="stable")[: min(n, np.count_nonzero(values))]
        padding = [-1] * (n - len(order))
        assert entry[feature].tolist() == [*order.tolist(), *padding]
        assert activation[feature].tolist() == [*values[order].tolist(), *(0 for _ in padding)]


@pytest.mark.parametrize("memory", [1, 10_000, 2**28])
@pytest.mark.parametrize("n", [1, 7, 100])
def test_activations_are_ordered_and_the_strongest_documents_those_of_a_sort(
    partials: list[Partial], n: int, memory: int
):
    heaps = no_entries(FEATURES, n)
    parts = []
    for features in feature_ranges(partials, 5, FEATURES, ACTIVATIONS, memory):
        document, activation = features.columns
        merged = tuple(np.empty(len(document), kind) for kind in (np.int32, np.int32, np.uint32))
        heaps_of_range = heaps[features.start : features.stop]
        merge_activations(features.starts, document, bits_of(activation), DOCUMENTS, merged, heaps_of_range)
        parts.append((merged[0] + features.start, merged[1], merged[2].view(np.float32)))
    feature, document, activation = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    pooled = drawn().max(1).T
    expected = ordered([Activations(*(a.astype(np.int32) for a in np.nonzero(pooled)), pooled[pooled > 0])])
    np.testing.assert_array_equal(feature, expected.feature)
    np.testing.assert_array_equal(document, expected.document)
    np.testing.assert_array_equal(activation, expected.activation)
    dense = np.zeros((FEATURES, DOCUMENTS), np.float32)
    dense[feature, document] = activation
    members = strongest_members(heaps)
    for values, member, strength in zip(dense, *members, strict=True):
        order = np.argsort(-values, kind="stable")[: min(n, np.count_nonzero(values))]
        assert member[member >= 0].tolist() == order.tolist()
        assert strength.tolist() == [*values[order].tolist(), *[0] * (n - len(order))]


def test_the_strongest_features_of_each_document_are_those_of_a_sort(partials: list[Partial]):
    for partial in partials:
        features = partial.top_features(5)
        for number, member, strength in zip(partial.document_numbers(), *features, strict=True):
            pooled = drawn()[number].max(0)
            (active,) = np.nonzero(pooled)
            rows = ordered([Activations(active.astype(np.int32), np.zeros_like(active, np.int32), pooled[active])])
            order = np.argsort(-rows.activation, kind="stable")[:TOP_FEATURES]
            assert member[member >= 0].tolist() == rows.feature[order].tolist()
            assert strength[: len(order)].tolist() == rows.activation[order].tolist()
            assert not strength[len(order) :].any()


def test_keys_hold_the_largest_activation_and_entry():
    keys = np.zeros((1, 2), np.uint64)
    largest = np.finfo(np.float32).max
    starts, rows = np.array([[0, 2]]), np.array([2**ENTRY_BITS - 1, 0])
    select_candidates(starts, bits_of(np.array([largest, np.float32(1e-45)], np.float32)), rows, keys)
    entry, activation = strongest_entries(keys)
    assert entry.tolist() == [[2**ENTRY_BITS - 1, 0]]
    assert activation.tolist() == [[largest, np.float32(1e-45)]]


def test_the_first_distinct_codes_keep_their_order():
    code = np.array([[3, 3, 1, 3, 0, 2], [-1, -1, -1, -1, -1, -1], [5, 5, 5, -1, -1, -1]], np.int32)
    distinct = np.full((3, 3), -1, np.int32)
    fill_first_distinct(code, distinct)
    assert distinct.tolist() == [[3, 1, 0], [-1, -1, -1], [5, -1, -1]]


def test_a_partial_that_ends_too_early_is_an_error(partials: list[Partial], tmp_path: Path):
    whole = partials[0]
    copy = tmp_path / "copy"
    copy.mkdir()
    (copy / "shard.json").write_bytes((whole.directory / "shard.json").read_bytes())
    (copy / "arrays.bin").write_bytes((whole.directory / "arrays.bin").read_bytes()[:-1])
    with pytest.raises(OSError, match="ends too early"):
        Partial(copy).top_features(5)


def test_places_of_rows_of_tokens():
    rng = np.random.default_rng(0)
    sizes = rng.choice([0, 1, 2, 63, 64, 65, 300], 200)
    offsets = np.cumsum([0, *sizes])
    row = rng.permutation(np.arange(-1, offsets[-1]))
    document, position = np.empty(len(row), np.int32), np.empty(len(row), np.int32)
    fill_places(offsets, row, document, position)
    places = [(number, place) for number, size in enumerate(sizes) for place in range(size)]
    expected = [places[at] if at >= 0 else (-1, -1) for at in row]
    assert list(zip(document.tolist(), position.tolist(), strict=True)) == expected
