"""Stored results are read without the packages that compute them, and stored analyses are listed, shown, deleted."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tegakari.cli.app import app
from tegakari.indexer.pipeline import index
from tests.support.known_concepts import CONCEPTS
from tests.support.small_case import SmallCase, with_index

PROGRAM = """
import json, sys
from typer.testing import CliRunner
from tegakari.cli.app import app
result = CliRunner().invoke(app, sys.argv[1:], catch_exceptions=False)
loaded = [name for name in ("torch", "transformers", "numba", "scipy", "sklearn", "matplotlib") if name in sys.modules]
print(json.dumps({"exit_code": result.exit_code, "loaded": loaded, "output": result.output}))
"""

CIRCUIT = ["--pairs", "12", "--min-cosine", "-1"]


@pytest.fixture(scope="module")
def store(small_case: SmallCase, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("stored") / "store"
    index(with_index(small_case, directory))
    return directory


@pytest.fixture(scope="module")
def concepts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import msgspec

    file = tmp_path_factory.mktemp("concepts") / "concepts.json"
    file.write_bytes(msgspec.json.encode({"concepts": CONCEPTS}))
    return file


def commands(concepts: Path) -> dict[str, list[str]]:
    label = ["--label", "車/軽", "--layer", "1"]
    study = ["--label", "車/軽", "--layer", "1", "-k", "2", "--draws", "2", *CIRCUIT, "--skip", "variants"]
    return {
        "knockout": ["knockout", "--run", "small", *label, "-k", "3", "--draws", "2", "--holdout"],
        "smallest": ["knockout", "smallest", "--run", "small", *label, "--candidates", "3"],
        "circuit": ["circuit", "--run", "small", *CIRCUIT],
        "variants": ["variants", "--run", "small", "--concepts", str(concepts), "-k", "3", "--unrelated", "12"],
        "specificity": ["specificity", "--run", "small", "--permutations", "20"],
        "study": ["study", "--run", "small", *study],
    }


@pytest.mark.parametrize("name", ["knockout", "smallest", "circuit", "variants", "specificity", "study"])
def test_a_stored_result_loads_no_package_that_computes(store: Path, concepts: Path, name: str):
    command = [*commands(concepts)[name], "--store", str(store), "--json"]
    computed = CliRunner().invoke(app, command, catch_exceptions=False)
    assert computed.exit_code == 0, computed.output
    program = subprocess.run([sys.executable, "-c", PROGRAM, *command], capture_output=True, text=True, check=True)
    stored = json.loads(program.stdout.splitlines()[-1])
    assert stored["loaded"] == []
    assert json.loads(stored["output"]) == json.loads(computed.stdout)


def test_analyses_are_listed_shown_and_deleted(store: Path):
    def invoke(*arguments: str):
        return CliRunner().invoke(app, ["analyses", *arguments, "--store", str(store)])

    other = ["circuit", "--run", "small", *CIRCUIT, "--seed", "8", "--store", str(store), "--json"]
    assert CliRunner().invoke(app, other, catch_exceptions=False).exit_code == 0
    command = ["circuit", "--run", "small", *CIRCUIT, "--seed", "9", "--store", str(store), "--json"]
    (circuit,) = json.loads(CliRunner().invoke(app, command, catch_exceptions=False).stdout)["items"]
    rows = json.loads(invoke("list", "--run", "small", "--kind", "circuit", "--json").stdout)["items"]
    (id_,) = [row["id"] for row in rows if "seed 9" in row["settings_text"]]
    assert "circuit" in invoke("list").output
    assert "settings: pairs" in invoke("show", id_).output
    assert json.loads(invoke("show", id_, "--json").stdout)["result"] == circuit
    assert "ids begin with ''" in str(invoke("show", "").exception)
    assert invoke("delete", id_[:10]).exit_code == 0
    assert id_ not in invoke("list", "--json").output
    assert "no analysis" in str(invoke("show", id_).exception)


@pytest.mark.parametrize(
    ("command", "option", "value", "reason"),
    [
        (["study", "--run", "small"], "-o", "nope/report.html", "nope is not a directory"),
        (["study", "--run", "small"], "-o", ".", ". is a directory"),
        (["study", "--run", "small"], "--tables", "file/tables", "is a file"),
        (["circuit", "--run", "small"], "--plot", "nope/a.svg", "nope is not a directory"),
        (["sql", "SELECT 1"], "-o", "nope/a.csv", "nope is not a directory"),
        (["runs", "export", "small"], "--to", "file", "is a file"),
        (["knockout", "curve", "--run", "small", "--label", "車/軽"], "--csv", "nope/a.csv", "nope is not"),
        (["knockout", "curve", "--run", "small", "--label", "車/軽"], "--plot", "nope/a.svg", "nope is not"),
        (["knockout", "table", "--run", "small"], "--csv", "nope/a.csv", "nope is not a directory"),
        (["knockout", "table", "--run", "small"], "--plot", "nope/a.svg", "nope is not a directory"),
        (["knockout", "single", "--run", "small", "--label", "a", "--layer", "1"], "--csv", "nope/a.csv", "nope is"),
        (["knockout", "smallest", "--run", "small", "--label", "a", "--layer", "1"], "--plot", "nope/a", "nope is"),
    ],
)
def test_outputs_are_checked_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: list[str], option: str, value: str, reason: str
):
    """There is no store: a command that got as far as its work would say so."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("x")
    result = CliRunner().invoke(app, [*command, option, value, "--store", "none"])
    assert result.exit_code == 2
    assert reason in " ".join(result.output.replace("│", " ").split())


def test_every_option_that_names_an_output_is_checked():
    from typer.main import get_command

    def options(command, path: str):
        for name, sub in getattr(command, "commands", {}).items():
            yield from options(sub, f"{path} {name}")
        yield from ((path, option) for option in command.params)

    unchecked = [
        f"{path} {option.opts[0]}"
        for path, option in options(get_command(app), "tegakari")
        if {"-o", "--output", "--csv", "--plot", "--tables", "--to"} & set(option.opts) and option.callback is None
    ]
    assert unchecked == []
