"""Analyses are stored whole and found by kind, runs and settings."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

import msgspec
import pyarrow as pa
import pytest

from tegakari.schemas.analysis import ANALYSIS_FORMAT
from tegakari.schemas.analysis_kinds import AnalysisKind
from tegakari.schemas.errors import StoreError
from tegakari.schemas.run import RunManifest
from tegakari.schemas.tables import Column, Table
from tegakari.store import Store
from tegakari.store.column_types import arrow_schema
from tegakari.store.results import analysis_key, delete_analysis, find_analysis, publish_analysis, stored_analyses
from tests.support.factories import make_run


class Settings(msgspec.Struct, frozen=True):
    label: str
    k: int = 20


class Result(msgspec.Struct, frozen=True):
    recall: float


KIND = AnalysisKind("knockout", Settings, Result)
OTHER_KIND = AnalysisKind("circuit", Settings, Result)

ROWS = Table("rows_of_it", "A table.", ("number",), (Column("number", "int32", "n"),))


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("store")
    make_run(directory, "one", seed=1)
    make_run(directory, "two", seed=2)
    return directory


def manifest(store: Path, run: str) -> RunManifest:
    return Store(store).run(run).manifest


def publish(store: Path, run: str, settings: Settings, recall: float = 0.5):
    rows = pa.table({"number": pa.array([1, 2], pa.int64())})
    return publish_analysis(
        store, KIND, [manifest(store, run)], settings, Result(recall), {ROWS: rows}, seconds=1.0, versions={}
    )


def test_an_analysis_is_found_by_its_settings(store: Path):
    publish(store, "one", Settings("自動車"))
    analysis = find_analysis(store, KIND, [manifest(store, "one")], Settings("自動車", 20))
    assert analysis is not None
    assert analysis.result(KIND) == Result(0.5)
    assert analysis.table(ROWS)["number"].to_pylist() == [1, 2]
    assert analysis.table(ROWS).schema.equals(arrow_schema(ROWS))
    assert msgspec.json.decode(analysis.manifest.settings) == {"label": "自動車", "k": 20}


@pytest.mark.parametrize(
    ("kind", "run", "settings"),
    [
        (OTHER_KIND, "one", Settings("自動車")),
        (KIND, "two", Settings("自動車")),
        (KIND, "one", Settings("自動車", 21)),
    ],
)
def test_another_kind_run_or_setting_is_another_analysis(store: Path, kind: AnalysisKind, run: str, settings: Settings):
    publish(store, "one", Settings("自動車"))
    assert find_analysis(store, kind, [manifest(store, run)], settings) is None


def test_the_key_depends_on_the_order_of_the_runs_but_not_of_the_fields(store: Path):
    one, two = manifest(store, "one"), manifest(store, "two")

    class Turned(msgspec.Struct, frozen=True):
        k: int = 20
        label: str = "a"

    assert analysis_key(KIND, [one], Settings("a")) == analysis_key(
        AnalysisKind("knockout", Turned, Result), [one], Turned()
    )
    assert analysis_key(KIND, [one, two], Settings("a")) != analysis_key(KIND, [two, one], Settings("a"))


def test_the_first_publication_stays(store: Path):
    publish(store, "two", Settings("b"), recall=0.25)
    assert publish(store, "two", Settings("b"), recall=0.75).result(KIND) == Result(0.25)
    assert not list((store / "work").glob("analysis-*"))


def _publish_in_a_process(store: Path) -> None:
    publish(store, "one", Settings("shared"))


def test_two_processes_leave_one_analysis(store: Path):
    spawn = multiprocessing.get_context("spawn")
    processes = [spawn.Process(target=_publish_in_a_process, args=(store,)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    analyses = stored_analyses(store, kind=KIND)
    assert sum(b"shared" in bytes(analysis.manifest.settings) for analysis in analyses) == 1


def test_a_listing_leaves_out_other_runs_and_damaged_and_deleted_analyses(store: Path):
    intact, damaged, deleted = (publish(store, "two", Settings("listing", k)) for k in (1, 2, 3))
    (damaged.directory / "analysis.json").write_text("{")
    delete_analysis(store, deleted)
    keys = {analysis.manifest.key for analysis in stored_analyses(store, run=manifest(store, "two"))}
    assert intact.manifest.key in keys
    assert damaged.manifest.key not in keys
    assert deleted.manifest.key not in keys
    assert all(
        analysis.manifest.runs[0].run == "two" for analysis in stored_analyses(store, run=manifest(store, "two"))
    )


def test_damage_is_an_error(store: Path):
    analysis = publish(store, "one", Settings("damage"))
    (analysis.directory / "result.json").write_text('{"recall": "much"}')
    file = analysis.directory / "rows_of_it.parquet"
    file.write_bytes(file.read_bytes()[:-9])
    with pytest.raises(StoreError, match="damaged"):
        analysis.result(KIND)
    with pytest.raises(StoreError, match="damaged"):
        analysis.table(ROWS)


@pytest.mark.parametrize(("difference", "fix"), [(1, "upgrade"), (-1, "run the analysis again")])
def test_another_format_is_refused(store: Path, difference: int, fix: str):
    settings = Settings(f"format {difference}")
    file = publish(store, "one", settings).directory / "analysis.json"
    formats = [b'"format": %d' % version for version in (ANALYSIS_FORMAT, ANALYSIS_FORMAT + difference)]
    file.write_bytes(file.read_bytes().replace(*formats))
    with pytest.raises(StoreError, match=fix):
        find_analysis(store, KIND, [manifest(store, "one")], settings)
