"""Responses of a run carry a strong ETag; a repeated request gets a 304; another run or request has another tag."""

from __future__ import annotations

import re
from pathlib import Path

import httpx
import msgspec
import pytest

from tegakari.schemas.analysis_kinds import ANALYSIS_KINDS
from tegakari.schemas.classifier import REPORT_FILE, ClassifierReport, FinetuneRecipe, ModelScores
from tegakari.service.app import create_app
from tegakari.service.http import etags
from tegakari.store import Run, Store, queries
from tegakari.store.disk.publish import delete_run
from tegakari.store.results import publish_analysis
from tegakari.store.vectors import publish_added
from tests.support.factories import LABELS, make_run, random_case
from tests.support.service import DIRECTIONS, EMBEDDINGS, RUN, client_of, segment

PATHS = [
    f"/v1/runs/{RUN}",
    f"/v1/runs/{RUN}/labels",
    f"/v1/runs/{RUN}/labels/{segment(LABELS[1])}",
    f"/v1/runs/{RUN}/labels/{segment(LABELS[1])}/features?limit=3",
    f"/v1/runs/{RUN}/labels/{segment(LABELS[1])}/features?limit=4",
    f"/v1/runs/{RUN}/layers/0/features/1/labels",
    f"/v1/runs/{RUN}/layers/0/features/1",
    f"/v1/runs/{RUN}/layers/0/features/2",
]


@pytest.mark.parametrize("path", PATHS)
def test_a_repeated_request_gets_a_304(server: httpx.Client, path: str):
    first = server.get(path)
    tag = first.headers["etag"]
    assert tag.startswith('"')
    assert "max-age" in first.headers["cache-control"]
    for matching in (tag, f"W/{tag}", f'"other", {tag}'):
        again = server.get(path, headers={"If-None-Match": matching})
        assert (again.status_code, again.content) == (304, b"")
        assert again.headers["etag"] == tag
        assert again.headers["cache-control"] == first.headers["cache-control"]
    for other in ('"other"', tag.strip('"'), ""):
        assert server.get(path, headers={"If-None-Match": other}).content == first.content


def test_every_request_has_its_own_tag(server: httpx.Client):
    tags = [server.get(path).headers["etag"] for path in PATHS]
    assert len(set(tags)) == len(PATHS)


def test_a_304_reads_nothing_from_the_store(client, monkeypatch):
    tag = client.get(PATHS[1]).headers["etag"]
    monkeypatch.setattr(queries, "labels", None)
    assert client.get(PATHS[1], headers={"If-None-Match": tag}).status_code == 304


def test_the_list_of_runs_is_not_cached(client):
    response = client.get("/v1/runs")
    assert response.headers["cache-control"] == "no-cache"
    assert "etag" not in response.headers


def test_problems_are_not_cached(client):
    response = client.get(f"/v1/runs/{RUN}/labels/nope")
    assert response.headers["cache-control"] == "no-store"
    assert "etag" not in response.headers


def test_another_run_of_the_same_name_has_another_tag(tmp_path: Path):
    make_run(tmp_path, RUN, layers=1)
    with client_of(tmp_path) as client:
        first = client.get(PATHS[1])
        with (tmp_path / "runs" / RUN / "run.json").open():  # held open, so that its inode is not given away again
            delete_run(tmp_path, RUN)
            make_run(tmp_path, RUN, layers=1, seed=5)
            second = client.get(PATHS[1], headers={"If-None-Match": first.headers["etag"]})
    assert second.status_code == 200
    assert second.json() != first.json()


def test_another_version_of_the_program_has_another_tag(client, monkeypatch):
    first = client.get(PATHS[0]).headers["etag"]
    monkeypatch.setattr(etags, "__version__", "99")
    assert client.get(PATHS[0]).headers["etag"] != first


class Anything(msgspec.Struct, frozen=True):
    """Settings and result of an analysis that no reader expects."""

    value: int = 0


def write_report(directory: Path, run: Run, baseline: float) -> None:
    """The report of the run's classifier, in the directory that its manifest names."""
    scores = ModelScores(
        macro_f1=run.manifest.scores.macro_f1, accuracy=1, labels=[], confusion=[], macro_f1_by_prefix={}
    )
    recipe = FinetuneRecipe(
        base_sha256="", corpus_sha256="", max_length=1, learning_rate=1, weight_decay=0, epochs=1, batch_size=1, seed=0,
        precision="float32",
    )  # fmt: skip
    report = ClassifierReport(
        classifier=scores,
        baseline=msgspec.structs.replace(scores, macro_f1=baseline),
        base="base",
        recipe=recipe,
        gradient_checkpointing=False,
        train_documents=1,
        eval_documents=run.manifest.corpus.documents,
        skipped=[],
        steps=1,
        seconds=1,
        peak_memory_bytes=1,
        device="cpu",
        versions={},
    )
    path = directory / run.manifest.locations.classifier / REPORT_FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(msgspec.json.encode(report))


def test_the_classification_changes_with_its_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)  # the manifest of a drawn run names a relative path
    make_run(tmp_path / "store", RUN)
    run = Store(tmp_path / "store").run(RUN)
    with client_of(tmp_path / "store") as client:
        for baseline in (None, 0.25, 0.75):
            if baseline is not None:
                write_report(tmp_path, run, baseline)
            response = client.get(f"/v1/runs/{RUN}/classification", headers={"If-None-Match": "*"})
            assert response.json()["baseline_macro_f1"] == baseline
            assert "etag" not in response.headers


def test_what_has_an_etag_depends_on_the_run_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Every GET route of a run is read before and after all that lies beside the run changes."""
    monkeypatch.chdir(tmp_path)
    store = tmp_path / "store"
    manifest = make_run(store, RUN)
    document = Store(store).run(RUN).blocks.documents.id[0].as_py()
    values = {"run": RUN, "label": LABELS[0], "document": document, "layer": "0", "feature": "1"}
    app = create_app(store)
    paths = sorted({route.path for route in app.routes if "GET" in getattr(route, "methods", ())})
    paths = [
        re.sub(r"\{(\w+):\w+\}", lambda match: segment(values[match[1]]), path)
        for path in paths
        if path.startswith("/v1/runs/{run:str}")
    ]
    paths = [f"{path}?label={segment(LABELS[0])}" if path.endswith(f"{RUN}/cues") else path for path in paths]
    assert len(paths) > 20

    def tagged() -> dict[str, bytes]:
        with client_of(store) as client:  # a new process would remember nothing either
            responses = {path: client.get(path) for path in paths}
        return {path: response.content for path, response in responses.items() if "etag" in response.headers}

    before = tagged()
    assert len(before) > 12
    write_report(tmp_path, Store(store).run(RUN), 0.5)
    for kind in ANALYSIS_KINDS:
        replaced = kind._replace(settings=Anything, result=Anything)
        publish_analysis(store, replaced, [manifest], Anything(), Anything(), {}, seconds=1, versions={})
    publish_added(store, manifest, DIRECTIONS, [EMBEDDINGS], [document.text for document in random_case().documents])
    assert tagged() == before
