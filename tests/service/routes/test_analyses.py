"""Stored analyses: ids, lists, the defaults that no other result replaces, deletion."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from litestar.testing import TestClient

from tegakari.analyses.circuit import circuit
from tegakari.analyses.engine.model_loader import ModelLoader, model_loader
from tegakari.analyses.specificity import specificity
from tegakari.analyses.study import study
from tegakari.analyses.variants import variants
from tegakari.indexer.pipeline import index
from tegakari.schemas.analysis import AnalysisDetail
from tegakari.schemas.analysis_kinds import (
    ANALYSIS_KINDS,
    CIRCUIT_ANALYSIS,
    STUDY_ANALYSIS,
    VARIANTS_ANALYSIS,
    AnalysisKind,
    result_of,
)
from tegakari.schemas.circuit import CircuitSettings
from tegakari.schemas.config import ServiceConfig
from tegakari.schemas.specificity import SpecificitySettings
from tegakari.schemas.study import StudyPart, StudySettings
from tegakari.service.admission.keys import create_key
from tegakari.service.app import create_app
from tegakari.store import Run, Store
from tegakari.store.results import Analysis, default_settings, publish_analysis
from tests.support.factories import LABELS, make_run
from tests.support.known_concepts import CONCEPTS
from tests.support.service import client_of, get
from tests.support.small_case import SmallCase, with_index

FEW_PAIRS = CircuitSettings(pairs=10, min_cosine=-1.0)
SKIP: list[StudyPart] = ["circuit", "knockouts", "variants"]


@pytest.fixture(scope="module")
def run(small_case: SmallCase, tmp_path_factory: pytest.TempPathFactory) -> Run:
    directory = tmp_path_factory.mktemp("analyses")
    index(with_index(small_case, directory))
    return Store(directory).run("small")


@pytest.fixture(scope="module")
def load(run: Run) -> ModelLoader:
    return model_loader(run, "cpu")


@pytest.fixture(scope="module")
def client(run: Run) -> Iterator[TestClient]:
    with client_of(run.store) as opened:
        yield opened


def publish_default(kind: AnalysisKind[Any, Any], runs: list[Run], result: Any) -> Analysis:
    """A result as if it were computed with the default settings, which ask too much of a small run."""
    manifests = [run.manifest for run in runs]
    settings = default_settings(kind, manifests)
    result = msgspec.structs.replace(result, settings=settings)
    return publish_analysis(
        runs[0].store, kind, manifests, settings, result, {}, seconds=1.5, versions={"tegakari": "1"}
    )


@pytest.mark.parametrize("kind", ["circuit", "variants"])
def test_a_result_of_other_settings_never_stands_for_the_default_one(
    client: TestClient, run: Run, load: ModelLoader, kind: str
):
    analysis_kind: AnalysisKind[Any, Any]
    if kind == "circuit":
        analysis_kind, path, words = CIRCUIT_ANALYSIS, "/v1/runs/small/circuit", "pairs 10, min_cosine -1.0"
        part = circuit(run.store, run, load, FEW_PAIRS)
    else:
        analysis_kind, path, words = VARIANTS_ANALYSIS, "/v1/runs/small/variants", "ks 3"
        part = variants(run.store, run, load, CONCEPTS, [3], unrelated=12)
    (row,) = get(client, "/v1/analyses", kind=kind)["items"]
    missing = client.get(path)
    assert missing.status_code == 404
    assert missing.json()["field"] == "analysis"
    assert row["id"] in missing.json()["fix"]
    assert words in missing.json()["fix"]
    assert get(client, path, analysis=row["id"]) == msgspec.to_builtins(part)
    default = publish_default(analysis_kind, [run], part)
    assert get(client, path)["settings"] == msgspec.to_builtins(default_settings(analysis_kind, [run.manifest]))
    if kind == "circuit":  # a later one
        circuit(run.store, run, load, msgspec.structs.replace(FEW_PAIRS, pairs=12))
    else:
        variants(run.store, run, load, CONCEPTS[:2], [3], unrelated=12)
    assert get(client, path) == default.result_object()
    rows = get(client, "/v1/runs/small/analyses", kind=kind)["items"]
    assert len(rows) == 3
    assert [other["settings_text"] for other in rows if other["is_default"]] == ["defaults"]
    assert get(client, path, analysis=row["id"]) == msgspec.to_builtins(part)


def test_an_id_of_another_kind_or_run_selects_nothing(client: TestClient, run: Run, load: ModelLoader):
    circuit(run.store, run, load, FEW_PAIRS)
    make_run(run.store, "other")
    (row,) = [
        row
        for row in get(client, "/v1/analyses", kind="circuit")["items"]
        if row["settings_text"].startswith("pairs 10")
    ]
    for path in ("/v1/runs/small/variants", "/v1/runs/other/circuit", "/v1/runs/small/specificity"):
        response = client.get(path, params={"analysis": row["id"]})
        assert (response.status_code, response.json()["field"]) == (404, "analysis"), path
    assert client.get("/v1/runs/small/circuit", params={"analysis": "../" * 3}).status_code == 404


def test_chance_is_that_of_the_default_permutations(client: TestClient, run: Run):
    path = "/v1/runs/small/specificity"
    few = specificity(run, SpecificitySettings(permutations=20))
    assert [row["chance"] for row in get(client, path)["items"]] == [None] * len(few.layers)
    (row,) = get(client, "/v1/analyses", kind="specificity")["items"]
    assert row["settings_text"] == "permutations 20"
    selected = get(client, path, analysis=row["id"])["items"]
    assert selected == msgspec.to_builtins(few.layers)
    usual = specificity(run)
    specificity(run, SpecificitySettings(permutations=21))
    assert get(client, path)["items"] == msgspec.to_builtins(usual.layers) != selected
    pooling = next(name for name in ("head", "max", "mean") if name != run.manifest.pooling)
    assert client.get(path, params={"analysis": row["id"], "pooling": pooling}).status_code == 400


def test_a_study_of_two_labels_does_not_change_the_comparison(tmp_path: Path):
    for seed, name in enumerate(("a", "b")):
        make_run(tmp_path, name, seed=seed)
    runs = [Store(tmp_path).run(name) for name in ("a", "b")]

    part = study(tmp_path, runs, lambda run: model_loader(run, "cpu"), StudySettings(skip=SKIP))
    with client_of(tmp_path) as client:
        missing = client.get("/v1/compare", params={"runs": "a,b"})
        (row,) = get(client, "/v1/runs/b/analyses", kind="study")["items"]
        assert row["runs"] == ["a", "b"]
        assert missing.status_code == 404
        assert f"{row['id']} (" in missing.json()["fix"]
        whole = publish_default(STUDY_ANALYSIS, runs, part).result(STUDY_ANALYSIS)
        study(tmp_path, runs, lambda run: model_loader(run, "cpu"), StudySettings(skip=SKIP, labels=list(LABELS[:2])))
        compared = get(client, "/v1/compare", runs="a,b")
        assert compared["labels"] == whole.labels == list(LABELS)
        selected = get(client, "/v1/compare", runs="a,b", analysis=row["id"])
        assert selected["differences"] == msgspec.to_builtins(part.differences)
        turned = get(client, "/v1/compare", runs="b,a")
    assert turned["runs"] == ["b", "a"]
    for row, other in zip(compared["differences"], turned["differences"], strict=True):
        assert (other["a"], other["b"], other["values"]) == (row["b"], row["a"], row["values"][::-1])
        assert [other["difference"][name] for name in ("value", "low", "high")] == [
            -row["difference"][name] for name in ("value", "high", "low")
        ]


def test_lists_have_every_analysis_once_in_pages(client: TestClient, run: Run, load: ModelLoader):
    for pairs in (10, 11, 12):
        circuit(run.store, run, load, msgspec.structs.replace(FEW_PAIRS, pairs=pairs))
    whole = get(client, "/v1/analyses")["items"]
    assert len({row["id"] for row in whole}) == len(whole) >= 3
    assert [row["created"] for row in whole] == sorted((row["created"] for row in whole), reverse=True)
    assert all(row["size"] > 0 and row["seconds"] >= 0 for row in whole)
    rows, cursor = [], {}
    while True:
        page = get(client, "/v1/analyses", limit=2, **cursor)
        rows += page["items"]
        if page["next"] is None:
            break
        cursor = {"cursor": page["next"]}
    assert rows == whole
    kinds = {row["kind"] for row in whole}
    assert kinds <= {kind.name for kind in ANALYSIS_KINDS}
    assert client.get("/v1/analyses", params={"kind": "circuits"}).status_code == 400


def test_an_analysis_is_read_and_deleted_by_its_id(client: TestClient, run: Run, load: ModelLoader):
    result = circuit(run.store, run, load, msgspec.structs.replace(FEW_PAIRS, pairs=13))
    (row,) = [row for row in get(client, "/v1/analyses")["items"] if row["settings_text"].startswith("pairs 13")]
    detail = get(client, f"/v1/analyses/{row['id']}")
    assert {name: detail[name] for name in row} == row
    assert detail["settings"] == msgspec.to_builtins(result.settings)
    assert result_of(msgspec.convert(detail, AnalysisDetail)) == result
    response = client.delete(f"/v1/analyses/{row['id']}")
    assert (response.status_code, response.content) == (204, b"")
    assert row["id"] not in {other["id"] for other in get(client, "/v1/analyses")["items"]}
    for method in ("GET", "DELETE"):
        assert client.request(method, f"/v1/analyses/{row['id']}").status_code == 404


def test_deletion_needs_a_key_of_scope_admin(run: Run, load: ModelLoader, tmp_path: Path):
    circuit(run.store, run, load, msgspec.structs.replace(FEW_PAIRS, pairs=14))
    keys = {scope: create_key(tmp_path / "keys.json", scope, scope)[0] for scope in ("compute", "admin")}
    app = create_app(run.store, ServiceConfig(log="off", warm="off"), keys=tmp_path / "keys.json")
    with TestClient(app, base_url="http://127.0.0.1") as guarded:
        headers = {scope: {"x-api-key": key} for scope, key in keys.items()}
        rows = guarded.get("/v1/analyses", headers=headers["compute"]).json()["items"]
        (id_,) = [row["id"] for row in rows if row["settings_text"].startswith("pairs 14")]
        assert guarded.delete(f"/v1/analyses/{id_}", headers=headers["compute"]).status_code == 403
        assert guarded.delete(f"/v1/analyses/{id_}", headers=headers["admin"]).status_code == 204
