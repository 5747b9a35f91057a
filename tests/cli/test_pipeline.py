"""Every stage as a user runs it, on a demo of toy size: from nothing to two published runs and their answers."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import duckdb
import pytest
from typer.testing import CliRunner

from tegakari.cli.app import app
from tegakari.demo.workspace import DemoSizes, make_demo
from tegakari.schemas.errors import NotFoundError
from tests.support.serving import serving

SIZES = DemoSizes(
    train_per_label=10,
    eval_per_label=5,
    vocab_size=900,
    alphabet=400,
    hidden_size=32,
    layers=2,
    heads=2,
    kv_heads=1,
    head_dim=16,
    intermediate=64,
    mix_texts=80,
    mix_steps=3,
    unlabelled_posts=80,
    unlabelled_steps=3,
)


def run(*arguments: str) -> str:
    """Standard output of a command that must succeed."""
    done = CliRunner().invoke(app, list(arguments), catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A demo whose two runs are published."""
    directory = tmp_path_factory.mktemp("demo")
    configs = make_demo(directory, sizes=SIZES)
    for config in configs:
        text = config.read_text().replace("d_sae = 512", "d_sae = 64").replace("epochs = 5", "epochs = 1")
        config.write_text(text)
    imported = json.loads(run("corpus", "import", "-c", str(configs[0]), "--json"))
    assert imported["documents"] + sum(drop["count"] for drop in imported["dropped"]) == imported["rows"]
    for config in configs:
        tuned = json.loads(run("finetune", "-c", str(config), "--device", "cpu", "--json"))
        assert 0 <= tuned["classifier"]["macro_f1"] <= 1
        assert tuned["baseline"]["macro_f1"] > 0.3
        saes = json.loads(run("sae", "train", "-c", str(config), "--device", "cpu", "--json"))
        assert [layer["layer"] for layer in saes["layers"]] == [0, 1]
        manifest = json.loads(run("index", "-c", str(config), "--json"))
        assert manifest["corpus"]["documents"] == imported["eval"]
    return directory


def test_both_runs_are_there_and_whole(demo: Path):
    store = str(demo / "store")
    found = json.loads(run("runs", "list", "--store", store, "--json"))["items"]
    assert [row["run"] for row in found] == ["demo-base", "demo-jpn"]
    for row in found:
        assert "matches its checksum" in run("runs", "verify", row["run"], "--store", store)
        assert "classifier" not in json.dumps(row["classifier"]).replace("ForSequenceClassification", "").lower()


def test_the_questions_answer_on_the_command_line(demo: Path):
    store = str(demo / "store")
    labels = json.loads(run("labels", "-r", "demo-jpn", "--store", store, "--json"))["items"]
    assert len(labels) == 16
    page = json.loads(run("features", "-r", "demo-jpn", "-l", "自動車", "--store", store, "-k", "3", "--json"))
    assert len(page["items"]) == 3
    assert page["items"][0]["cohens_d"] >= page["items"][1]["cohens_d"] >= page["items"][2]["cohens_d"]
    more = run(
        "features",
        "-r",
        "demo-jpn",
        "-l",
        "自動車",
        "--store",
        store,
        "-k",
        "3",
        "--json",
        "--cursor",
        page["next"],
    )
    assert json.loads(more)["items"][0]["cohens_d"] <= page["items"][2]["cohens_d"]
    best = page["items"][0]
    feature = f"{best['layer']}:{best['feature']}"
    detail = json.loads(run("feature", "-r", "demo-jpn", "-f", feature, "--store", store, "--json"))
    assert next(label["cohens_d"] for label in detail["labels"] if label["label"] == "自動車") == pytest.approx(
        best["cohens_d"]
    )
    layers = json.loads(run("specificity", "-r", "demo-jpn", "--store", store, "--json"))["items"]
    assert [row["weak"] + row["specific"] + row["shared"] for row in layers] == [64, 64]


def test_tables_are_for_people(demo: Path):
    store = str(demo / "store")
    assert "自動車" in run("labels", "-r", "demo-base", "--store", store)
    assert "demo-jpn" in run("runs", "--store", store)
    assert "⟦" in run("feature", "-r", "demo-base", "-f", "1:3", "--store", store, "--all")


def readme_blocks(language: str) -> list[str]:
    text = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def for_toy_size(text: str) -> str:
    """An example, with a layer and a feature that the SAEs of this file have: two layers of 64 features."""
    text = text.replace("3:361", "1:41").replace("--layer 3", "--layer 1").replace('"layer": 3', '"layer": 1')
    return text.replace("/layers/3/features/361", "/layers/1/features/41")


def test_the_readmes_commands_run(demo: Path):
    lines = [
        line
        for block in readme_blocks("")
        for line in block.splitlines()
        if "--run demo-jpn" in line and "--run demo-base" not in line
    ]
    assert len(lines) == 10
    for line in lines:
        assert run(*shlex.split(for_toy_size(line), comments=True)[1:], "--store", str(demo / "store"))


@pytest.mark.skipif(shutil.which("curl") is None, reason="no curl on this machine")
def test_the_readmes_curl_asks_a_server(demo: Path, tmp_path: Path):
    (block,) = (block for block in readme_blocks("") if block.startswith("API="))
    with serving("--store", demo / "store") as (url, _):
        script = for_toy_size(block).replace("http://127.0.0.1:8765", url)
        done = subprocess.run(["bash", "-ec", script], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "features.parquet").stat().st_size
    assert '"predicted"' in done.stdout


def test_the_readmes_python_runs(demo: Path, capsys: pytest.CaptureFixture[str]):
    block, _ = readme_blocks("python")
    exec(block.replace('open("store")', f"open({str(demo / 'store')!r})"), {})
    printed = capsys.readouterr().out.splitlines()
    assert 1 <= len(printed) <= 5


def test_the_readmes_client_asks_a_server(demo: Path, capsys: pytest.CaptureFixture[str]):
    _, block = readme_blocks("python")
    with serving("--store", demo / "store") as (url, _):
        exec(block.replace("http://127.0.0.1:8765", url), {})
    printed = capsys.readouterr().out.splitlines()
    assert 2 <= len(printed) <= 6


def test_the_readmes_sql_runs(demo: Path):
    (command,) = (block for block in readme_blocks("") if block.startswith("duckdb "))
    program, flag, database, sql = shlex.split(command.replace("\\\n", " "))
    assert (program, flag, database) == ("duckdb", "-readonly", "store/runs/demo-jpn/index.duckdb")
    with duckdb.connect(str(demo / "store/runs/demo-jpn/index.duckdb"), read_only=True) as connection:
        assert len(connection.sql(sql).fetchall()) == 5


def test_a_second_index_changes_nothing(demo: Path):
    manifest = demo / "store" / "runs" / "demo-jpn" / "run.json"
    before = manifest.read_bytes()
    assert "published already" in run("index", "-c", str(demo / "jpn.toml"))
    assert manifest.read_bytes() == before


def test_a_deleted_run_is_gone(demo: Path):
    store = str(demo / "store")
    run("runs", "delete", "demo-base", "--store", store, "--yes")
    assert [row["run"] for row in json.loads(run("runs", "list", "--store", store, "--json"))["items"]] == ["demo-jpn"]
    with pytest.raises(NotFoundError):
        run("labels", "-r", "demo-base", "--store", store)
