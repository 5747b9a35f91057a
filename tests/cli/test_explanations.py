"""`tegakari explain` and `tegakari explanations`, as a user runs them, with a server of chat completions."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from tegakari.cli.app import app
from tegakari.schemas.config import Config, ExplainConfig, IndexConfig
from tegakari.schemas.config.render import render_config
from tests.support.chat_server import MODEL, ChatServer, Reply, chat_server, explained
from tests.support.factories import LABELS, make_run

RUN = "drawn"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("store")
    make_run(directory, RUN)
    return directory


@pytest.fixture
def workplace(store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TEGAKARI_STORE", raising=False)
    return tmp_path


def configure(workplace: Path, store: Path, server: ChatServer) -> None:
    explain = ExplainConfig(base_url=server.url, model=MODEL, retries=0)
    config = Config(index=IndexConfig(run=RUN, store=str(store)), explain=explain)
    (workplace / "tegakari.toml").write_text(render_config(config))


def invoke(*arguments: str) -> Result:
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, (result.output, result.stderr, result.exception)
    return result


def parsed(*arguments: str) -> Any:
    return json.loads(invoke(*arguments, "--json").stdout)


def reply(body: dict[str, Any]) -> Reply:
    """An explanation, or as a judge: what has the marked or unmarked word car fits."""
    question = body["messages"][-1]["content"]
    if not question.startswith("Explanation: "):
        return explained("the word car")
    passages = question.split("\n")[1:]
    return Reply(json.dumps({"fits": ["car" in passage for passage in passages]}))


def test_explain_list_score_write_vote_delete_and_import(workplace: Path, store: Path):
    with chat_server(reply) as server:
        configure(workplace, store, server)
        plan = parsed("explain", "--feature", "0:1", "--feature", "0:2", "--dry-run")
        assert (plan["requests"], server.requests) == (2, [])
        assert "The first prompt:" in invoke("explain", "--label", LABELS[0], "--dry-run").stdout
        result = parsed("explain", "--feature", "0:1", "--feature", "0:2", "--feature", "0:39")
        assert (result["explained"], result["unexplained"][0]["reason"]) == (2, "it is never active")
        shown = invoke("explain", "--feature", "0:1", "--feature", "0:2").stdout
        assert "explained before" in shown
        assert len(server.requests) == 2

        scored = parsed("explanations", "score", "--judge", "model", "--method", "model", "--feature", "0:1")
        assert (scored["judge"], scored["explanations"], scored["scored"]) == (MODEL, 1, 1)
        (row,) = parsed("explanations", "list", "--feature", "0:1", "--method", "model")["items"]
        assert {score["judge"] for score in row["scores"]} == {MODEL}
        assert all(score["unanswered"] == 0 for score in row["scores"])
        again = parsed("explanations", "score", "--judge", "model", "--method", "model", "--feature", "0:1")
        assert again["usage"]["requests"] == 0

    written = parsed("explanations", "write", "--feature", "1:3", "軽トラの語", "--author", "Ann")
    assert (written["language"], written["method"]) == ("ja", "person")
    voted = invoke("explanations", "vote", written["id"], "up", "--feature", "1:3", "--author", "Bob").stdout
    assert voted == "1 for the explanation, 0 against it\n"
    assert "軽トラの語" in invoke("explanations", "list", "軽トラ").stdout
    csv = workplace / "rows.csv"
    invoke("explanations", "list", "--author", "Ann", "--csv", str(csv))
    assert "軽トラの語" in csv.read_text()
    wrong = CliRunner().invoke(app, ["explanations", "delete", written["id"], "--feature", "1:3", "--author", "Bob"])
    assert wrong.exit_code == 1
    invoke("explanations", "delete", written["id"], "--feature", "1:3", "--author", "Ann")
    assert parsed("explanations", "list", "--author", "Ann")["items"] == []


def test_explanations_pass_through_neuronpedias_layout(workplace: Path, store: Path):
    with chat_server(reply) as server:
        configure(workplace, store, server)
        invoke("explain", "--feature", "2:5")
    exported = parsed("runs", "export", RUN, "--to", "np", "--format", "neuronpedia")
    counts = {row["table"]: row["rows"] for row in exported["items"]}
    files = sorted((workplace / "np").glob("*/*/explanations/batch-0.jsonl.gz"))
    lines = [json.loads(line) for file in files for line in gzip.decompress(file.read_bytes()).splitlines()]
    assert len(lines) == counts["explanations"] > 0
    (row,) = (
        line for line in lines if line["layer"].startswith("2-") and line["index"] == "5" and MODEL in line["notes"]
    )
    assert (row["description"], row["typeName"], row["authorId"]) == ("the word car", None, "tegakari")
    assert row["notes"].startswith(f"tegakari: model, author {MODEL}")

    other = workplace / "other"
    make_run(other, RUN)
    theirs = [
        row | {"explanationModelName": "gpt-4o-mini", "typeName": "oai_token-act-pair", "embedding": [0.1] * 256},
        row | {"index": "6", "authorId": None, "description": "two\nlines"},
        row | {"index": "6", "authorId": None, "description": "two lines"},
        row | {"index": "4000"},
        row | {"layer": "no number"},
        row | {"description": ""},
        {"index": 1},
    ]
    file = workplace / "batch-0.jsonl.gz"
    file.write_bytes(gzip.compress(b"".join(json.dumps(line).encode() + b"\n" for line in theirs)))
    result = parsed("explanations", "import", str(file), "--run", RUN, "--store", str(other))
    assert (result["rows"], result["added"], result["stored_before"]) == (7, 2, 1)
    assert sum(result["skipped"].values()) == 4
    stored = [
        entry for entry in parsed("explanations", "list", "--store", str(other))["items"] if entry["method"] != "terms"
    ]
    assert [(entry["author"], entry["method"], entry["prompt_version"], entry["text"]) for entry in stored] == [
        ("gpt-4o-mini", "model", "oai_token-act-pair", "the word car"),
        ("neuronpedia", "person", None, "two lines"),
    ]
    file.write_bytes(file.read_bytes()[:-20])
    refused = CliRunner().invoke(app, ["explanations", "import", str(file), "--run", RUN, "--store", str(other)])
    assert refused.exit_code == 1
    assert "cannot be read" in str(refused.exception)


def test_options_that_contradict_each_other_are_refused(workplace: Path, store: Path):
    arguments = ["explain", "--run", RUN, "--store", str(store), "--feature", "0:1", "--label", LABELS[0]]
    result = CliRunner().invoke(app, arguments)
    assert getattr(result.exception, "field", None) == "--label"
