"""Knockouts over HTTP, in-process: answers, jobs, bad input."""

from __future__ import annotations

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from litestar.testing import TestClient

from tegakari.analyses import knockout
from tegakari.analyses.engine.run_models import RunModels, load_run_models
from tegakari.indexer.pipeline import index
from tegakari.schemas.errors import ModelNotHereError
from tegakari.schemas.jobs import KnockoutJob
from tegakari.schemas.knockout import KnockoutResult, KnockoutSettings
from tegakari.service.app import create_app
from tegakari.service.engine.queue import Batchable, ModelQueue, Progress
from tegakari.store import Store
from tests.indexer.conftest import SmallCase, with_index
from tests.support.live_case import LiveCase
from tests.support.service import RUN, client_of

PATH = "/v1/runs/small/knockouts"
SLOW = {"draws": 100, "seed": 5}


def ask(client: TestClient | httpx.Client, expected: int = 200, wait: float = 30, **settings: Any) -> Any:
    response = client.post(PATH, json=settings, params={"wait": wait})
    assert response.status_code == expected, response.text
    return response.json()


def by_label(live_case: LiveCase, **more: Any) -> dict[str, Any]:
    return {"label": live_case.run.labels[0], "layer": 1, "k": 4, "draws": 2, **more}


def slow(live_case: LiveCase, **more: Any) -> dict[str, Any]:
    """A knockout that takes seconds."""
    texts = [f"{text} {number}" for number in range(6) for text in list(live_case.texts.values())[:40]]
    return {"label": live_case.run.labels[0], "layer": 0, "k": 4, **SLOW, "texts": texts[:240], **more}


def test_the_answer_is_that_of_python(live_case: LiveCase, tmp_path: Path):
    asked = by_label(live_case, details="logits")
    found = msgspec.convert(ask(live_case.client, **asked), KnockoutResult)
    models = load_run_models(live_case.run, "cpu")
    expected = knockout.knock_out(tmp_path, live_case.run, models, msgspec.convert(asked, KnockoutSettings))
    assert found.settings == expected.settings
    assert found.delta == expected.delta
    assert found.features == expected.features
    assert found.control == expected.control
    assert found.survived == expected.survived
    assert found.outcomes
    assert [each.after for each in found.outcomes] == [each.after for each in expected.outcomes or ()]


def test_the_same_question_is_answered_from_the_store(live_case: LiveCase):
    first = ask(live_case.client, **by_label(live_case, seed=21))
    assert ask(live_case.client, **by_label(live_case, seed=21)) == first  # timings included
    with TestClient(create_app(live_case.store)) as other:
        other.app.state.live._load = None  # pyright: ignore
        assert ask(other, **by_label(live_case, seed=21)) == first


def test_an_empty_set_changes_nothing(live_case: LiveCase):
    for asked in ({"label": live_case.run.labels[0], "layer": 1, "k": 0}, {"features": [], "documents_of": "車/軽"}):
        found = ask(live_case.client, **asked)
        assert (found["delta"], found["delta_low"], found["delta_high"]) == (0, 0, 0)


def test_a_long_one_comes_as_a_job(live_case: LiveCase):
    client = live_case.client
    response = client.post(PATH, json=slow(live_case), params={"wait": 0})
    assert response.status_code == 202
    job = msgspec.convert(response.json(), KnockoutJob)
    assert job.state in ("queued", "running")
    place = response.headers["location"]
    assert place == f"/v1/knockouts/{job.id}"
    states = []
    while (now := client.get(place).json())["state"] not in ("done", "failed"):
        states.append((now["state"], now["done"]))
        time.sleep(0.01)
    assert now["state"] == "done", now
    assert now["result"]["documents"] == 240
    assert states == sorted(states, key=lambda state: (state[0] == "running", state[1]))
    assert ask(client, wait=0, **slow(live_case)) == now["result"]
    with client.stream("GET", f"{place}/events") as events:
        said = events.read().decode()
    assert said.startswith("event: done\ndata: {")


def test_progress_is_told_as_it_comes(live_case: LiveCase):
    client = live_case.client
    place = client.post(PATH, json=slow(live_case, seed=6), params={"wait": 0}).headers["location"]
    with client.stream("GET", f"{place}/events") as events:
        assert events.headers["content-type"].startswith("text/event-stream")
        said = events.read().decode().split("\n\n")
    names = [block.splitlines()[0] for block in said if block.startswith("event")]
    assert names[-1] == "event: done"
    assert set(names[:-1]) == {"event: progress"}


def test_cancelled_work_ends(live_case: LiveCase):
    client = live_case.client
    place = client.post(PATH, json=slow(live_case, seed=7), params={"wait": 0}).headers["location"]
    assert client.delete(place).json()["state"] == "cancelled"
    assert client.delete(place).json()["state"] == "cancelled"
    assert client.get(place).json()["state"] == "cancelled"
    started = time.perf_counter()
    ask(client, **by_label(live_case, seed=8))
    assert time.perf_counter() - started < 5
    assert client.get(place).json()["result"] is None
    assert client.post(PATH, json=slow(live_case, seed=7), params={"wait": 0}).status_code == 202  # afresh
    client.delete(place)


def test_a_finished_one_is_not_cancelled(live_case: LiveCase):
    ask(live_case.client, **by_label(live_case, seed=9))
    id_ = knockout.knockout_key(
        live_case.run,
        knockout.resolve(live_case.run, msgspec.convert(by_label(live_case, seed=9), KnockoutSettings)),
    )
    job = live_case.client.delete(f"/v1/knockouts/{id_}").json()
    assert job["state"] == "done"
    assert job["result"]["documents"] > 0


def test_identical_questions_at_once_are_one_job(live_case: LiveCase, monkeypatch: pytest.MonkeyPatch):
    counted: list[int] = []
    real = knockout.run._compute_group

    def counting(*arguments: Any) -> Any:
        counted.append(len(arguments[3]))
        return real(*arguments)

    monkeypatch.setattr(knockout.run, "_compute_group", counting)
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: ask(live_case.client, **slow(live_case, seed=10)), range(4)))
    assert all(answer == answers[0] for answer in answers)
    assert sum(counted) == 1


def test_questions_that_wait_share_their_passes(live_case: LiveCase):
    with ThreadPoolExecutor(6) as pool:
        first = pool.submit(ask, live_case.client, **slow(live_case, seed=11))
        time.sleep(0.2)
        others = list(pool.map(lambda k: ask(live_case.client, **by_label(live_case, seed=12, k=k)), range(1, 6)))
        first.result()
    assert {answer["timings"]["together"] for answer in others} == {5}


def test_short_requests_are_answered_between_the_steps_of_a_long_one(live_case: LiveCase):
    client = live_case.client
    place = client.post(PATH, json=slow(live_case, seed=13, draws=100), params={"wait": 0}).headers["location"]
    while client.get(place).json()["state"] == "queued":
        time.sleep(0.005)
    assert client.post("/v1/runs/small/classify", json={"texts": ["車です"]}).status_code == 200
    assert client.get(place).json()["state"] == "running"
    client.delete(place)


@pytest.mark.parametrize(
    ("settings", "status", "field"),
    [
        ({"features": [{"layer": 1, "feature": 48}], "documents_of": "車/軽"}, 404, "feature"),
        ({"features": [{"layer": 7, "feature": 1}], "documents_of": "車/軽"}, 404, "layer"),
        ({"features": [{"layer": 1, "feature": -1}], "documents_of": "車/軽"}, 400, None),
        ({"label": "車/軽", "layer": 7}, 404, "layer"),
        ({"label": "none", "layer": 1}, 404, "label"),
        ({"label": "車/軽", "layer": 1, "k": 49}, 404, "k"),
        ({"label": "車/軽", "layer": 1, "k": 1001}, 400, None),
        ({"label": "車/軽", "layer": 1, "documents": ["none"]}, 404, "document"),
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
def test_bad_input_is_said(live_case: LiveCase, settings: dict[str, Any], status: int, field: str | None):
    problem = ask(live_case.client, status, **settings)
    assert problem["detail"]
    if field:
        assert problem["field"] == field


def test_a_wrong_wait_is_said(live_case: LiveCase):
    for wait in ("-1", "61", "nan", "x"):
        response = live_case.client.post(PATH, json=by_label(live_case), params={"wait": wait})
        assert response.status_code == 400, wait


def test_a_label_without_documents_is_said(store: Path):
    with client_of(store) as client:
        names = [row["label"] for row in client.get("/v1/runs/uneven/labels").json()["items"] if not row["documents"]]
        response = client.post("/v1/runs/uneven/knockouts", json={"label": names[0], "layer": 0, "k": 0})
    assert response.status_code in (404, 409)  # no documents, or no models here, whichever is looked at first


def test_a_model_that_is_not_here_is_said(store: Path):
    with client_of(store) as client:
        label = client.get(f"/v1/runs/{RUN}/labels").json()["items"][0]["label"]
        response = client.post(f"/v1/runs/{RUN}/knockouts", json={"label": label, "layer": 1, "k": 2, "draws": 0})
    assert response.status_code == 409
    assert response.json()["type"].endswith(ModelNotHereError.slug)


def test_too_little_memory_is_said_before_it_runs(live_case: LiveCase, monkeypatch: pytest.MonkeyPatch):
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


@pytest.mark.parametrize("id_", ["0" * 32, "..", "%2e%2e%2fruns", "x" * 300, "%00"])
def test_unknown_jobs_are_not_found(live_case: LiveCase, id_: str):
    for method, path in (("GET", ""), ("DELETE", ""), ("GET", "/events")):
        assert live_case.client.request(method, f"/v1/knockouts/{id_}{path}").status_code == 404


def test_a_store_that_cannot_be_written_still_answers(
    small_case: SmallCase,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    store = tmp_path / "store"
    index(with_index(small_case, store))

    def refused(*_: Any, **__: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("tegakari.analyses.knockout.run.publish_analysis", refused)
    monkeypatch.setattr("tegakari.service.engine.jobs.write_atomically", refused)
    with client_of(store) as client:
        label = Store(store).run("small").labels[0]
        response = client.post(PATH, json={"label": label, "layer": 1, "k": 2})
        assert response.status_code == 200, response.text
        settings = knockout.resolve(Store(store).run("small"), KnockoutSettings(label=label, layer=1, k=2))
        id_ = knockout.knockout_key(Store(store).run("small"), settings)
        assert client.get(f"/v1/knockouts/{id_}").json()["result"] == response.json()


def test_patient_work_lets_others_pass(live_case: LiveCase):
    """The engine alone: what is not patient goes between the steps, in the order in which it came."""
    order: list[str] = []
    let_go = threading.Event()

    def long(_models: RunModels, payloads: Any, progress: Progress) -> list[str]:
        order.append("begin")
        let_go.wait(10)
        progress(1, 2)
        order.append("end")
        return ["long" for _ in payloads]

    patient = Batchable(key="patient", together=long, size=lambda _: 1, most=1, patient=True)

    async def scenario() -> None:
        live = ModelQueue(load=lambda run: None)  # type: ignore[arg-type, return-value]
        one = asyncio.create_task(live.submit_batchable(live_case.run, patient, 1))
        while not order:
            await asyncio.sleep(0.005)
        two = asyncio.create_task(live.submit_batchable(live_case.run, patient, 2))
        short = [
            asyncio.create_task(live.submit(live_case.run, lambda *_, name=name: order.append(name)))
            for name in ("first", "second")
        ]
        await asyncio.sleep(0.05)
        let_go.set()
        await asyncio.gather(one, two, *short)
        live.close()

    asyncio.run(scenario())
    assert order == ["begin", "first", "second", "end", "begin", "end"]
