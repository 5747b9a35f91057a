"""Readers of runs that are deleted, replaced or damaged meanwhile."""

from __future__ import annotations

import random
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tegakari.schemas.errors import NotFoundError, StoreError
from tegakari.store import Store, queries
from tegakari.store.disk.layout import layer_file
from tegakari.store.disk.publish import delete_run
from tests.support.factories import LABELS, make_run


@pytest.fixture
def store(tmp_path: Path) -> Path:
    make_run(tmp_path, "drawn")
    return tmp_path


QUERIES = {
    "sql": queries.labels,
    "blocks": lambda run: queries.feature_documents(run, 0, 0),
    "both": lambda run: queries.label_features(run, LABELS[0]),
    "feature": lambda run: queries.feature(run, 0, 0),
}


@pytest.mark.parametrize("query", QUERIES)
def test_a_run_deleted_before_its_first_query_is_not_found(store: Path, query: str):
    run = Store(store).run("drawn")
    delete_run(store, "drawn")
    with pytest.raises(NotFoundError, match="deleted or replaced"):
        QUERIES[query](run)


@pytest.mark.parametrize("query", QUERIES)
def test_a_run_replaced_before_its_first_query_is_not_mixed_with_the_new_one(store: Path, query: str):
    opened = Store(store)
    run = opened.run("drawn")
    delete_run(store, "drawn")
    make_run(store, "drawn", seed=1, labels=[f"new {label}" for label in LABELS])
    with pytest.raises(NotFoundError, match="repeat the request"):
        QUERIES[query](run)
    assert queries.labels(opened.run("drawn"))[0].label == f"new {LABELS[0]}"


def test_a_run_that_was_read_stays_readable_after_its_deletion(store: Path):
    run = Store(store).run("drawn")
    before = [query(run) for query in QUERIES.values()]
    delete_run(store, "drawn")
    assert [query(run) for query in QUERIES.values()] == before


def test_a_missing_or_cut_file_is_an_error_with_a_fix(store: Path):
    hot = store / "runs" / "drawn" / "hot"
    for file in sorted(hot.iterdir()):
        content = file.read_bytes()
        for damaged in (None, content[: len(content) // 2]):
            file.unlink(missing_ok=True)
            if damaged is not None:
                file.write_bytes(damaged)
            with pytest.raises(StoreError, match="could not be read") as caught:
                queries.label_features(Store(store).run("drawn"), LABELS[0])
            assert caught.value.fix
            assert "runs verify" in caught.value.fix
        file.write_bytes(content)


EVERYTHING = (
    "FROM labels",
    "FROM documents",
    "FROM confusion",
    "FROM layers",
    "FROM features",
    "FROM feature_labels",
    "FROM top_tokens",
    "FROM specificity",
)


def read_all(store: Path) -> list[object]:
    run = Store(store).run("drawn")
    return [run.rows(sql) for sql in EVERYTHING]


def test_a_damaged_database_never_gives_wrong_rows(store: Path):
    """DuckDB stores a checksum per block: a flipped bit is an error, unless it is in unused space."""
    database = store / "runs" / "drawn" / "index.duckdb"
    whole, content = read_all(store), database.read_bytes()
    generator = random.Random(0)
    refused = 0
    for _ in range(60):
        at = generator.randrange(len(content))
        database.write_bytes(content[:at] + bytes([content[at] ^ (1 << generator.randrange(8))]) + content[at + 1 :])
        try:
            assert read_all(store) == whole
        except StoreError:
            refused += 1
    assert refused > 20


def test_activations_of_each_feature_are_those_of_the_file(store: Path):
    run = Store(store).run("drawn")
    for layer in run.manifest.saes.layers:
        rows = pq.read_table(layer_file(run.directory, layer), partitioning=None).to_pylist()
        for feature in range(run.manifest.saes.widths[layer]):
            expected = [(row["document"], row["activation"]) for row in rows if row["feature"] == feature]
            activations = run.activations_of(layer, feature)
            assert list(zip(activations.document.tolist(), activations.activation.tolist(), strict=True)) == expected


def test_activations_of_a_damaged_or_deleted_run_are_refused(store: Path):
    run = Store(store).run("drawn")
    file = layer_file(run.directory, 0)
    content = file.read_bytes()
    start = pq.ParquetFile(file).metadata.row_group(0).column(2).data_page_offset
    file.write_bytes(content[: start + 60] + bytes([content[start + 60] ^ 1]) + content[start + 61 :])
    with pytest.raises(StoreError, match="could not be read"):
        run.activations_of(0, 0)
    delete_run(store, "drawn")
    with pytest.raises(NotFoundError):
        run.activations_of(1, 0)


def test_damaged_activations_are_an_error_if_checksums_are_checked(store: Path):
    """Pages have checksums; the footer has none: `runs verify` checks it."""
    file = layer_file(store / "runs" / "drawn", 0)
    content, whole = file.read_bytes(), pq.read_table(file, partitioning=None)
    footer = len(content) - 8 - int.from_bytes(content[-8:-4], "little")
    refused = 0
    for at in range(4, footer, 5):
        file.write_bytes(content[:at] + bytes([content[at] ^ (1 << at % 8)]) + content[at + 1 :])
        try:
            table = pq.read_table(file, partitioning=None, page_checksum_verification=True)
        except (OSError, pa.ArrowException):
            refused += 1
            continue
        assert table.equals(whole)  # a field of a page's header without effect
    assert refused > 0.9 * len(range(4, footer, 5))
