"""Knockouts over HTTP, in-process: results, jobs, bad input."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from litestar.testing import TestClient

from tegakari.analyses import knockout
from tegakari.analyses.engine.run_models import load_run_models
from tegakari.indexer.pipeline import index
from tegakari.schemas.errors import ModelNotHereError
from tegakari.schemas.jobs import KnockoutJob
from tegakari.schemas.knockout import KnockoutResult, KnockoutSettings
from tegakari.service.app import create_app
from tegakari.service.engine.job_states import JobStates
from tegakari.store import Store
from tests.support.live_case import LiveCase
from tests.support.service import RUN, client_of
from tests.support.small_case import SmallCase, with_index

PATH = "/v1/runs/small/knockouts"
SLOW = {"draws": 100, "seed": 5}


def post(client: TestClient | httpx.Client, expected: int = 200, wait: float = 60, **settings: Any) -> Any:
    response = client.post(PATH, json=settings, params={"wait": wait})
    assert response.status_code == expected, response.text
    body = response.json()
    return body["result"] if expected == 200 else body


def by_label(live_case: LiveCase, **options: Any) -> dict[str, Any]:
    return {"label": live_case.run.labels[0], "layer": 1, "k": 4, "draws": 2, **options}


def slow(live_case: LiveCase, **options: Any) -> dict[str, Any]:
    """A knockout that takes seconds."""
    texts = [f"{text} {number}" for number in range(6) for text in list(live_case.texts.values())[:40]]
    return {"label": live_case.run.labels[0], "layer": 0, "k": 4, **SLOW, "texts": texts[:240], **options}


def test_the_result_equals_that_of_python(live_case: LiveCase, tmp_path: Path):
    settings = by_label(live_case, details="logits")
    result = msgspec.convert(post(live_case.client, **settings), KnockoutResult)
    models = load_run_models(live_case.run, "cpu")
    expected = knockout.knock_out(tmp_path, live_case.run, models, msgspec.convert(settings, KnockoutSettings))
    assert result.settings == expected.settings
    assert result.delta == expected.delta
    assert result.features == expected.features
    assert result.control == expected.control
    assert result.survived == expected.survived
    assert result.outcomes
    assert [outcome.after for outcome in result.outcomes] == [outcome.after for outcome in expected.outcomes or ()]


def test_repeated_requests_return_the_stored_result(live_case: LiveCase):
    first = post(live_case.client, **by_label(live_case, seed=21))
    assert post(live_case.client, **by_label(live_case, seed=21)) == first  # timings included
    with TestClient(create_app(live_case.store), base_url="http://127.0.0.1") as other:
        other.app.state.model_queue._load = None  # pyright: ignore
        assert post(other, **by_label(live_case, seed=21)) == first


def test_an_empty_set_changes_nothing(live_case: LiveCase):
    for settings in ({"label": live_case.run.labels[0], "layer": 1, "k": 0}, {"features": [], "documents_of": "車/軽"}):
        result = post(live_case.client, **settings)
        assert result["delta"] == 0
        assert result["delta_low"] < 0 < result["delta_high"]


def test_a_long_knockout_becomes_a_job(live_case: LiveCase):
    client = live_case.client
    response = client.post(PATH, json=slow(live_case), params={"wait": 0})
    assert response.status_code == 202
    job = msgspec.convert(response.json(), KnockoutJob)
    assert job.state in ("queued", "loading", "running")
    location = response.headers["location"]
    assert location == f"/v1/knockouts/{job.id}"
    states = []
    while (job_now := client.get(location).json())["state"] not in ("done", "failed"):
        states.append((job_now["state"], job_now["done"]))
        time.sleep(0.01)
    assert job_now["state"] == "done", job_now
    assert job_now["result"]["documents"] == 240
    assert states == sorted(states, key=lambda state: (state[0] == "running", state[1]))
    assert post(client, wait=0, **slow(live_case)) == job_now["result"]
    with client.stream("GET", f"{location}/events") as events:
        text = events.read().decode()
    assert text.startswith("event: done\ndata: {")


def test_progress_is_streamed(live_case: LiveCase):
    client = live_case.client
    location = client.post(PATH, json=slow(live_case, seed=6), params={"wait": 0}).headers["location"]
    with client.stream("GET", f"{location}/events") as events:
        assert events.headers["content-type"].startswith("text/event-stream")
        text = events.read().decode().split("\n\n")
    names = [block.splitlines()[0] for block in text if block.startswith("event")]
    assert names[-1] == "event: done"
    assert set(names[:-1]) == {"event: progress"}


def test_a_cancelled_job_ends(live_case: LiveCase):
    client = live_case.client
    location = client.post(PATH, json=slow(live_case, seed=7), params={"wait": 0}).headers["location"]
    assert client.delete(location).json()["state"] == "cancelled"
    assert client.delete(location).json()["state"] == "cancelled"
    assert client.get(location).json()["state"] == "cancelled"
    started = time.perf_counter()
    post(client, **by_label(live_case, seed=8))
    assert time.perf_counter() - started < 5
    assert client.get(location).json()["result"] is None
    assert (
        client.post(PATH, json=slow(live_case, seed=7), params={"wait": 0}).status_code == 202
    )  # a new job with the same id
    client.delete(location)


def test_a_finished_knockout_cannot_be_cancelled(live_case: LiveCase):
    post(live_case.client, **by_label(live_case, seed=9))
    id_ = knockout.knockout_key(
        live_case.run,
        knockout.resolve(live_case.run, msgspec.convert(by_label(live_case, seed=9), KnockoutSettings)),
    )
    job = live_case.client.delete(f"/v1/knockouts/{id_}").json()
    assert job["state"] == "done"
    assert job["result"]["documents"] > 0


def test_simultaneous_requests_with_the_same_settings_are_one_job(live_case: LiveCase, monkeypatch: pytest.MonkeyPatch):
    batch_sizes: list[int] = []
    real = knockout.compute_knockouts

    def counting(*arguments: Any, **options: Any) -> Any:
        batch_sizes.append(len(arguments[3]))
        return real(*arguments, **options)

    lookups: list[str] = []
    find = JobStates.stored

    def slow_lookup(states: JobStates, id_: str) -> KnockoutJob | None:
        lookups.append(id_)
        time.sleep(0.3)  # the other requests arrive before its end
        return find(states, id_)

    monkeypatch.setattr(knockout, "compute_knockouts", counting)
    monkeypatch.setattr(JobStates, "stored", slow_lookup)
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda _: post(live_case.client, **slow(live_case, seed=10)), range(4)))
    assert all(result == results[0] for result in results)
    assert (sum(batch_sizes), len(lookups)) == (1, 2)  # before and after the claim
    assert post(live_case.client, wait=0, **slow(live_case, seed=10)) == results[0]
    assert (sum(batch_sizes), len(lookups)) == (1, 3)


def test_waiting_knockouts_share_their_passes(live_case: LiveCase):
    with ThreadPoolExecutor(6) as pool:
        first = pool.submit(post, live_case.client, **slow(live_case, seed=11))
        time.sleep(0.2)
        others = list(pool.map(lambda k: post(live_case.client, **by_label(live_case, seed=12, k=k)), range(1, 6)))
        first.result()
    assert {result["timings"]["together"] for result in others} == {5}


def test_short_requests_run_between_the_steps_of_a_knockout(live_case: LiveCase):
    client = live_case.client
    location = client.post(PATH, json=slow(live_case, seed=13, draws=100), params={"wait": 0}).headers["location"]
    while client.get(location).json()["state"] in ("queued", "loading"):
        time.sleep(0.005)
    assert client.post("/v1/runs/small/classify", json={"texts": ["車です"]}).status_code == 200
    assert client.get(location).json()["state"] == "running"
    client.delete(location)


@pytest.mark.parametrize(
    ("settings", "status", "field"),
    [
        ({"features": [{"layer": 1, "feature": 48}], "documents_of": "車/軽"}, 404, "features[0].feature"),
        ({"features": [{"layer": 7, "feature": 1}], "documents_of": "車/軽"}, 404, "features[0].layer"),
        ({"features": [{"layer": 1, "feature": -1}], "documents_of": "車/軽"}, 400, "features[0].feature"),
        ({"label": "車/軽", "layer": 7}, 404, "layer"),
        ({"label": "none", "layer": 1}, 404, "label"),
        ({"label": "車/軽", "layer": 1, "k": 49}, 400, "k"),
        ({"label": "車/軽", "layer": 1, "k": 1001}, 400, None),
        ({"label": "車/軽", "layer": 1, "documents": ["none"]}, 404, "documents[0]"),
        ({"label": "車/軽", "layer": 1, "documents": []}, 400, None),
        ({"label": "車/軽", "layer": 1, "texts": ["a"] * 257}, 400, None),
        ({"label": "車/軽", "layer": 1, "texts": ["a" * 100_001]}, 400, None),
        ({"label": "車/軽", "layer": 1, "texts": [""]}, 400, None),
        ({"label": "車/軽", "layer": 1, "mode": "none"}, 400, None),
        ({"label": "車/軽", "layer": 1, "unknown": 1}, 400, None),
        ({"label": "車/軽", "features": []}, 400, "label"),
        ({}, 400, "label"),
    ],
)
def test_wrong_settings_are_refused(live_case: LiveCase, settings: dict[str, Any], status: int, field: str | None):
    problem = post(live_case.client, status, **settings)
    assert problem["detail"]
    if field:
        assert problem["field"] == field


def test_a_wrong_wait_is_refused(live_case: LiveCase):
    for wait in ("-1", "61", "nan", "x"):
        response = live_case.client.post(PATH, json=by_label(live_case), params={"wait": wait})
        assert response.status_code == 400, wait


def test_a_label_without_documents_is_refused(store: Path):
    with client_of(store) as client:
        names = [row["label"] for row in client.get("/v1/runs/uneven/labels").json()["items"] if not row["documents"]]
        response = client.post("/v1/runs/uneven/knockouts", json={"label": names[0], "layer": 0, "k": 0})
    assert response.status_code in (404, 409)  # no documents, or no models, whichever is checked first


def test_a_missing_model_is_a_problem(store: Path):
    with client_of(store) as client:
        label = client.get(f"/v1/runs/{RUN}/labels").json()["items"][0]["label"]
        response = client.post(f"/v1/runs/{RUN}/knockouts", json={"label": label, "layer": 1, "k": 2, "draws": 0})
    assert response.status_code == 409
    assert response.json()["type"].endswith(ModelNotHereError.slug)


def test_too_little_memory_is_refused_before_the_knockout_runs(live_case: LiveCase, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("tegakari.analyses.engine.memory.free_bytes", lambda device: 1000)
    response = live_case.client.post(PATH, json=by_label(live_case, seed=14))
    assert response.status_code == 503
    assert response.json()["type"].endswith("memory-short")
    assert int(response.headers["retry-after"]) > 0
    id_ = knockout.knockout_key(
        live_case.run,
        knockout.resolve(live_case.run, msgspec.convert(by_label(live_case, seed=14), KnockoutSettings)),
    )
    job = live_case.client.get(f"/v1/knockouts/{id_}").json()
    assert (job["state"], job["problem"]["type"]) == ("failed", response.json()["type"])


@pytest.mark.parametrize("id_", ["0" * 32, "%252E%252E", "%2e%2e%2fruns", "x" * 300, "%00"])
def test_unknown_jobs_are_not_found(live_case: LiveCase, id_: str):
    for method, path in (("GET", ""), ("DELETE", ""), ("GET", "/events")):
        assert live_case.client.request(method, f"/v1/knockouts/{id_}{path}").status_code == 404


def test_a_read_only_store_still_returns_results(
    small_case: SmallCase,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    store = tmp_path / "store"
    index(with_index(small_case, store))

    def refused(*_: Any, **__: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("tegakari.analyses.knockout.compute.publish_analysis", refused)
    monkeypatch.setattr("tegakari.store.disk.job_files.write_atomically", refused)
    with client_of(store) as client:
        label = Store(store).run("small").labels[0]
        response = client.post(PATH, json={"label": label, "layer": 1, "k": 2})
        assert response.status_code == 200, response.text
        settings = knockout.resolve(Store(store).run("small"), KnockoutSettings(label=label, layer=1, k=2))
        id_ = knockout.knockout_key(Store(store).run("small"), settings)
        assert client.get(f"/v1/knockouts/{id_}").json()["result"] == response.json()["result"]


def test_every_response_is_a_knockout_and_the_list_has_them_all(live_case: LiveCase):
    client = live_case.client
    done = client.post(PATH, json=by_label(live_case, seed=31), params={"wait": 60}).json()
    started = client.post(PATH, json=slow(live_case, seed=32, draws=100), params={"wait": 0}).json()
    rows = {row["id"]: row for row in client.get("/v1/knockouts", params={"limit": 1000}).json()["items"]}
    assert rows[started["id"]]["state"] in ("queued", "running")
    client.delete(f"/v1/knockouts/{started['id']}")
    named = {"features": [{"layer": 0, "feature": 1}, {"layer": 1, "feature": 2}], "documents_of": "車/軽", "draws": 0}
    ended = client.post(PATH, json={**named, "seed": 33}, params={"wait": 60}).json()
    assert done.keys() == started.keys() == ended.keys() == client.get(f"/v1/knockouts/{done['id']}").json().keys()
    again = client.post(PATH, json=by_label(live_case, seed=31)).json()
    assert again == client.get(f"/v1/knockouts/{done['id']}").json()
    assert (again["id"], again["result"]) == (done["id"], done["result"])
    rows = {row["id"]: row for row in client.get("/v1/knockouts", params={"limit": 1000}).json()["items"]}
    assert rows[done["id"]] == {
        **{name: done[name] for name in ("id", "state", "run")},
        **{"done": done["result"]["documents"], "total": done["result"]["documents"]},
        **{"label": live_case.run.labels[0], "layer": 1, "features": 4},
        "created": rows[done["id"]]["created"],
    }
    assert (rows[ended["id"]]["label"], rows[ended["id"]]["layer"], rows[ended["id"]]["features"]) == (None, None, 2)
    cancelled = client.get("/v1/knockouts", params={"state": "cancelled"}).json()["items"]
    assert started["id"] in {row["id"] for row in cancelled}
    assert {row["state"] for row in cancelled} == {"cancelled"}


def test_pages_of_the_list_are_the_list(live_case: LiveCase):
    for seed in range(41, 46):
        post(live_case.client, **by_label(live_case, seed=seed, k=1, draws=0))
    whole = live_case.client.get("/v1/knockouts", params={"run": "small", "limit": 1000}).json()["items"]
    assert [row["created"] for row in whole] == sorted((row["created"] for row in whole), reverse=True)
    rows, cursor = [], None
    while cursor is not None or not rows:
        parameters = {"run": "small", "limit": 2, **({"cursor": cursor} if cursor else {})}
        page = live_case.client.get("/v1/knockouts", params=parameters).json()
        rows += page["items"]
        cursor = page["next"]
    assert rows == whole
    assert len(rows) >= 5


def test_wrong_parameters_of_the_list_are_refused(live_case: LiveCase):
    assert live_case.client.get("/v1/knockouts", params={"run": "none"}).json()["field"] == "run"
    problem = live_case.client.get("/v1/knockouts", params={"state": "lost"}).json()
    assert (problem["field"], problem["status"]) == ("state", 400)
    assert all(state in problem["fix"] for state in ("queued", "running", "cancelled"))
    assert live_case.client.get("/v1/knockouts", params={"cursor": "x"}).json()["field"] == "cursor"
