"""The command line as a user meets it: help, errors without tracebacks, exit codes, JSON."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer.main

from tegakari.cli.app import app


def tegakari(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from tegakari.cli import main; main()", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd)


def leaves(command: Any, path: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], Any]]:
    children = getattr(command, "commands", None)
    if not children:
        return [(path, command)]
    return [leaf for name, child in children.items() for leaf in leaves(child, (*path, name))]


COMMANDS = leaves(typer.main.get_command(app))


@pytest.mark.parametrize(("path", "command"), COMMANDS, ids=[" ".join(path) for path, _ in COMMANDS])
def test_every_command_has_help_with_an_example(path: tuple[str, ...], command: Any):
    assert command.help
    assert command.params
    assert f"Example: [bold]tegakari {' '.join(path)}" in command.help
    for parameter in command.params:
        if parameter.param_type_name == "option":
            assert parameter.help, f"{' '.join(path)} {parameter.name}"


def test_init_writes_a_file_once(tmp_path: Path):
    assert tegakari("init", "--preset", "tiny", cwd=tmp_path).returncode == 0
    again = tegakari("init", "--preset", "tiny", cwd=tmp_path)
    assert again.returncode == 1
    assert "exists" in again.stderr
    assert "fix:" in again.stderr
    assert (tmp_path / "tegakari.toml").read_text().startswith("# tegakari.toml")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["index"], "tegakari init"),
        (["corpus", "import"], "tegakari init"),
        (["finetune", "-c", "none.toml"], "none.toml"),
        (["runs", "show", "none", "--store", "nowhere"], "no run 'none'"),
        (["runs", "show", "../etc", "--store", "nowhere"], "cannot be the name of a run"),
        (["runs", "delete", "none", "--store", "nowhere", "--yes"], "no run 'none'"),
        (["features", "--run", "none", "--label", "x"], "no run 'none'"),
    ],
)
def test_errors_are_sentences(arguments: list[str], words: str, tmp_path: Path):
    done = tegakari(*arguments, cwd=tmp_path)
    assert done.returncode == 1
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["fnord"], "No such command"),
        (["features", "--run", "a"], "Missing option '--label'"),
        (["labels"], "no run is named"),
        (["labels", "--run", "a", "--run"], "requires an argument"),
        (["init", "--preset", "gpt"], "gemma-2-2b-it"),
        (["features", "--run", "a", "--label", "x", "--variety", "some"], "some"),
        (["features", "--run", "a", "--label", "x", "-k", "0"], "0 is not in the range"),
        (["feature", "--run", "a", "--feature", "41"], "write LAYER:FEATURE"),
        (["search", "--run", "a"], "nothing to search for"),
        (["search", "--run", "a", "x", "--like", "y"], "give words or --like"),
        (["compare", "--run", "a"], "give two: --run A --run B"),
        (["runs", "list", "--store", "nowhere", "--runs", "a"], "--run, once per run"),
        (["cues", "--labels", "a,b"], "--label, once per label"),
        (["features", "--limit", "3"], "Now: -k"),
        (["feature", "--layer", "1", "--feature", "3"], "--feature 1:41"),
        (["neighbours", "--feature", "1:3", "--in", "b"], "--in-run"),
        (["knockout", "table", "--run", "a", "--layer", "a=x"], "'a=x' gives no layer"),
        (["study", "--run", "a", "--layer", "24,22"], "'24,22' gives no layer"),
        (["study", "--run", "a", "--layer", "a=1", "--layer", "a=2"], "run 'a' has two layers"),
        (["knockout", "--run", "a", "--label", "x", "--layer", "1", "--draws", "-1"], "--draws"),
    ],
)
def test_wrong_usage_is_exit_code_2(arguments: list[str], words: str, tmp_path: Path):
    done = tegakari(*arguments, cwd=tmp_path)
    assert words in " ".join(done.stderr.replace("│", "").split())
    assert done.returncode == 2
    assert done.stdout == ""


def test_an_empty_store_lists_nothing_and_is_named(tmp_path: Path):
    done = tegakari("runs", "list", "--store", "nowhere", "--json", cwd=tmp_path)
    assert (done.returncode, json.loads(done.stdout)) == (0, {"items": [], "next": None})
    assert str(tmp_path / "nowhere") in done.stderr
