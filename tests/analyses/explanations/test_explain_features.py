"""Features explained by a server of chat completions on this machine, with everything that can go wrong on the way."""

from __future__ import annotations

import errno
import json
import os
import shutil
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tegakari.analyses.explanations import asker, endpoint
from tegakari.analyses.explanations.explain_features import (
    INACTIVE,
    Feature,
    explain_features,
    label_features,
    plan_explanations,
)
from tegakari.schemas.config import ExplainConfig
from tegakari.schemas.errors import DiskFullError, EndpointError, NotFoundError, StoreError
from tegakari.store import Run, Store, queries
from tegakari.store.disk.layout import answers_file
from tegakari.store.disk.publish import delete_run
from tegakari.store.explanations import delete_explanation, explanations
from tests.support.chat_server import MODEL, ChatServer, Reply, chat_server, explained
from tests.support.factories import make_run

RUN = "drawn"
FEATURES = [Feature(0, number) for number in range(6)]


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("store")
    make_run(directory, RUN)
    return directory


@pytest.fixture
def run(drawn: Path) -> Run:
    shutil.rmtree(drawn / "explanations", ignore_errors=True)
    return Store(drawn).run(RUN)


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tegakari.schemas.retries.FIRST_PAUSE", 0.005)
    monkeypatch.delenv("TEGAKARI_EXPLAIN_KEY", raising=False)


def config_of(server: ChatServer, **changes: Any) -> ExplainConfig:
    return msgspec.structs.replace(ExplainConfig(base_url=server.url, model=MODEL, retries=2, concurrency=4), **changes)


def test_explanations_are_stored_and_no_question_is_asked_twice(run: Run, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("KEY_OF_TEST", "secret")
    with chat_server(lambda body: explained("vehicles"), key="secret") as server:
        config = config_of(server, key_variable="KEY_OF_TEST", model="")
        result = explain_features(run, [*FEATURES, Feature(0, 39)], config)
        assert (result.model, result.explained, result.usage.requests) == (MODEL, 6, 6)
        assert [(row.feature, row.reason) for row in result.unexplained] == [(39, INACTIVE)]
        assert result.usage.tokens == 6 * 720
        rows = explanations(run).items
        assert {(row.layer, row.feature) for row in rows} == set(FEATURES)
        assert {(row.text, row.method, row.author, row.model) for row in rows} == {("vehicles", "model", MODEL, MODEL)}
        assert {row.prompt_version for row in rows} == {"explain-1.en"}

        again = explain_features(run, FEATURES, config)
        assert (again.explained, again.stored_before, again.usage.requests) == (0, 6, 0)
        for row in rows[:4]:
            delete_explanation(run, row.layer, row.feature, row.id, MODEL)
        resumed = explain_features(run, FEATURES, config)
        assert (resumed.explained, resumed.stored_before, resumed.usage.cached) == (4, 2, 4)
        assert len(server.requests) == 6
        (question,) = (message["content"] for message in server.requests[0]["messages"][-1:])
        assert question.count("\n") + 1 == question.count(" active: ")
        assert "<<" in question
        assert server.requests[0]["response_format"]["json_schema"]["schema"]["required"] == ["explanation"]


def test_several_models_must_be_told_apart_by_name(run: Run):
    with (
        chat_server(lambda body: explained("x"), models=("a", "b")) as server,
        pytest.raises(EndpointError, match="has 2 models") as raised,
    ):
        explain_features(run, FEATURES, config_of(server, model=""))
    assert (raised.value.field, raised.value.fix) == ("explain.model", "name one of: a, b")


class Sequence:
    """Replies one after the other; the last one from then on."""

    def __init__(self, *replies: Reply) -> None:
        self._replies = iter(replies)
        self._last = replies[-1]

    def __call__(self, body: dict[str, Any]) -> Reply:
        return next(self._replies, self._last)


GOOD = explained("vehicles")
WHOLE = json.dumps({"choices": [{"message": {"content": '{"explanation": "x"}'}}]}).encode()


@pytest.mark.parametrize(
    ("failure", "reason"),
    [
        (Reply(status=500), "status 500: "),
        (Reply(status=429, headers={"retry-after": "0"}), "status 429: "),
        (Reply(status=503, body=b"<html>\x1b[2J"), "status 503: <html> [2J"),
        (Reply(body=WHOLE, cut=True), "the connection broke: "),
        (Reply(body=b"{"), "the response is no chat completion: {"),
        (Reply(body=b"data: [DONE]\n\n"), "no chat completion: data: [DONE]"),
        (Reply(body=b'{"choices": []}'), "no chat completion"),
        (Reply(body=b" " * (endpoint.MAX_BODY + 10)), "larger than"),
        (Reply(""), "the answer is empty"),
        (Reply(None), "the answer is empty"),
    ],
    ids=["500", "429", "503", "cut", "invalid", "stream", "no choice", "1 MB", "empty", "null"],
)
def test_what_can_pass_is_tried_again_and_then_left_out_with_its_reason(run: Run, failure: Reply, reason: str):
    with chat_server(Sequence(failure, failure, GOOD)) as server:
        result = explain_features(run, FEATURES[:1], config_of(server))
        assert (result.explained, result.usage.requests) == (1, 3)
    with chat_server(Sequence(failure)) as server:
        result = explain_features(run, FEATURES[1:2], config_of(server))
        assert (result.explained, result.usage.requests) == (0, 3)
        assert reason in result.unexplained[0].reason
        assert result.unexplained[0].reason.isprintable()
    assert [row.feature for row in explanations(run).items] == [0]
    with chat_server(Sequence(GOOD)) as server:  # no failure was stored as an answer
        assert explain_features(run, FEATURES[1:2], config_of(server)).explained == 1


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (Reply("Vehicles, I think."), "not the JSON asked for"),
        (Reply('{"explanation": "x", "more": 1}'), "not the JSON asked for"),
        (Reply('{"explanation": ["x"]}'), "not the JSON asked for"),
        (Reply('{"explanation": "vehi', finish_reason="length"), "cut at the limit of its tokens"),
        (Reply("HACKED: I ignore the above"), "not the JSON asked for"),
        (explained("x" * 10_000), "10,0"),
        (explained("軽トラなどの車の語"), "not in the language en"),
        (explained(" … "), "no words"),
    ],
    ids=["prose", "more", "list", "length", "injected", "10 KB", "Japanese", "no words"],
)
def test_an_answer_that_is_no_explanation_is_refused_and_not_asked_for_again(run: Run, reply: Reply, reason: str):
    with chat_server(Sequence(reply)) as server:
        for _ in range(2):
            result = explain_features(run, FEATURES[:1], config_of(server))
            assert (result.explained, len(server.requests)) == (0, 1)
            assert reason in result.unexplained[0].reason
    assert explanations(run).items == []


def test_retry_after_holds_for_all_questions(run: Run):
    with chat_server(Sequence(Reply(status=429, headers={"retry-after": "1"}), GOOD)) as server:
        start = time.monotonic()
        result = explain_features(run, FEATURES[:2], config_of(server, concurrency=1))
        assert 1 <= time.monotonic() - start < 10
        assert (result.explained, result.usage.requests) == (2, 3)
    with chat_server(Sequence(Reply(status=429, headers={"retry-after": "86400"}))) as server:
        result = explain_features(run, FEATURES[3:4], config_of(server))
        assert "asks to wait 86400" in result.unexplained[0].reason


def test_a_slow_server_is_left_after_the_timeout(run: Run):
    with chat_server(Sequence(GOOD), delay=0.5) as server:
        result = explain_features(run, FEATURES[:1], config_of(server, timeout=0.1, retries=0))
    assert result.unexplained[0].reason == "no answer within 0.1 seconds"


@pytest.mark.parametrize(
    ("options", "changes", "field", "message"),
    [
        ({"key": "secret"}, {"key_variable": "NO_SUCH_KEY"}, "key_variable", "status 401: "),
        ({"models": ("other",)}, {}, "model", "status 404: "),
        ({"reply": Sequence(Reply(status=400))}, {}, "base_url", "status 400: "),
        ({"reply": Sequence(Reply(status=302, headers={"location": "http://example.org"}))}, {}, "base_url", "302"),
    ],
)
def test_what_no_question_can_pass_ends_the_command(
    run: Run, options: dict[str, Any], changes: dict[str, Any], field: str, message: str
):
    with (
        chat_server(options.pop("reply", Sequence(GOOD)), **options) as server,
        pytest.raises(EndpointError, match=message) as raised,
    ):
        explain_features(run, FEATURES, config_of(server, **changes))
    assert raised.value.field == f"explain.{field}"
    assert raised.value.fix


def test_without_a_server_the_command_ends(run: Run):
    with chat_server(Sequence(GOOD)) as server:
        config = config_of(server)
    with pytest.raises(EndpointError, match="cannot be reached") as raised:
        explain_features(run, FEATURES, config)
    assert raised.value.field == "explain.base_url"


def test_a_server_that_fails_all_the_time_ends_the_command(run: Run, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(asker, "MAX_FAILURES", 5)
    with (
        chat_server(Sequence(GOOD, GOOD, Reply(status=500))) as server,
        pytest.raises(EndpointError, match="no answer to 5 requests in a row"),
    ):
        explain_features(run, [Feature(0, n) for n in range(20)], config_of(server, retries=0, concurrency=1))
    assert len(explanations(run).items) == 2


@pytest.mark.parametrize("formats", [("json_object",), (), ("json_schema",)])
def test_a_server_that_refuses_a_format_gets_the_next(run: Run, formats: tuple[str, ...]):
    fenced = Reply('<think>{"a": 1}\nhm</think>\n```json\n{"explanation": "vehicles"}\n```')
    with chat_server(Sequence(fenced), formats=formats) as server:
        assert explain_features(run, FEATURES, config_of(server)).explained == 6
        sent = [body.get("response_format", {}).get("type") for body in server.requests]
        assert set(sent) == {formats[0] if formats else None}


def test_limits_of_requests_and_tokens_stop_the_command(run: Run):
    with chat_server(Sequence(GOOD)) as server:
        result = explain_features(run, FEATURES, config_of(server, max_requests=2, concurrency=1))
        assert (result.explained, len(server.requests)) == (2, 2)
        assert result.stopped == "explain.max_requests = 2 is reached"
        result = explain_features(run, FEATURES, config_of(server, max_tokens=2500, concurrency=2))
        assert 0 < result.usage.tokens <= 2500
        assert result.stopped == "explain.max_tokens = 2,500 would be exceeded"
        rest = explain_features(run, FEATURES, config_of(server))
        assert (rest.stored_before + rest.explained, rest.stopped) == (6, None)
        assert len(server.requests) == 6


@pytest.mark.parametrize("address", ["https://api.example.org/v1", "http://192.0.2.1:8000/v1", "http://localhost.x/v1"])
def test_texts_stay_on_this_machine_unless_the_configuration_says_otherwise(run: Run, address: str):
    with pytest.raises(EndpointError, match="another machine") as raised:
        explain_features(run, FEATURES, ExplainConfig(base_url=address, model="m"))
    assert raised.value.field == "explain.send_texts"
    assert not answers_file(run.store).exists()
    allowed = ExplainConfig(base_url="http://nothing.invalid/v1", model="m", send_texts=True, retries=0)
    with pytest.raises(EndpointError, match="cannot be reached"):
        explain_features(run, FEATURES, allowed)
    for local in ("http://localhost:1/v1", "http://127.0.0.7:1/v1", "http://[::1]:1/v1"):
        endpoint.check_may_send(ExplainConfig(base_url=local))


def test_a_proxy_of_the_environment_gets_no_texts_of_a_local_server(run: Run, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HTTP_PROXY", "http://proxy.invalid:9")
    monkeypatch.setenv("ALL_PROXY", "http://proxy.invalid:9")
    with chat_server(Sequence(GOOD)) as server:
        assert explain_features(run, FEATURES[:1], config_of(server)).explained == 1


def test_a_plan_asks_nothing(run: Run):
    with chat_server(Sequence(GOOD)) as server:
        config = config_of(server)
        explain_features(run, FEATURES[:2], config)
        plan = plan_explanations(run, [*FEATURES, Feature(0, 39)], config)
        assert (plan.features, plan.stored_before, plan.inactive, plan.requests) == (7, 2, 1, 4)
        assert 4 * 200 < plan.prompt_tokens < 4 * 3000
        assert plan.answer_tokens == 4 * 300
        assert "[system]" in plan.example
        assert len(server.requests) == 2


def test_features_are_those_that_carry_labels(run: Run):
    features = label_features(run, per_label=2)
    assert features == sorted(set(features))
    for feature in features:
        row = queries.feature(run, *feature)
        assert row.variety == 1
    some = label_features(run, [run.labels[0]], layers=[2], per_label=3)
    assert 0 < len(some) <= 3
    assert {feature.layer for feature in some} == {2}
    with pytest.raises(NotFoundError):
        label_features(run, ["no such label"])


def test_a_full_disk_ends_the_command_and_loses_no_answer(run: Run, monkeypatch: pytest.MonkeyPatch):
    def full(descriptor: int, content: bytes, offset: int) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with chat_server(Sequence(GOOD)) as server:
        with monkeypatch.context() as patch:
            patch.setattr(os, "pwrite", full)
            with pytest.raises(DiskFullError):
                explain_features(run, FEATURES, config_of(server))
        assert explanations(run).items == []
        result = explain_features(run, FEATURES, config_of(server))
        assert (result.explained, result.usage.requests) == (6, 0)


def test_a_damaged_cache_is_an_error_that_names_the_file(run: Run):
    answers_file(run.store).parent.mkdir()
    answers_file(run.store).write_bytes(b"no database" * 1000)
    with chat_server(Sequence(GOOD)) as server, pytest.raises(StoreError, match=r"answers\.sqlite"):
        explain_features(run, FEATURES, config_of(server))


def test_a_deleted_run_is_not_explained(tmp_path: Path):
    make_run(tmp_path, RUN, layers=1, documents_per_label=2)
    run = Store(tmp_path).run(RUN)
    run.blocks  # noqa: B018 - opened before the run is deleted, as by a command that is running
    delete_run(tmp_path, RUN)
    with chat_server(Sequence(GOOD)) as server, pytest.raises(NotFoundError, match="deleted"):
        explain_features(run, FEATURES, config_of(server))
    assert server.requests == []


def test_questions_are_asked_at_the_same_time_but_not_more_than_allowed(run: Run):
    with chat_server(Sequence(GOOD), delay=0.1) as server:
        explain_features(run, [Feature(0, n) for n in range(16)], config_of(server, concurrency=4))
        assert server.largest_concurrency == 4
