"""The command line as a user meets it: help, errors without tracebacks, exit codes, JSON."""

from __future__ import annotations

import csv
import fcntl
import json
import os
import re
import struct
import subprocess
import sys
import termios
from pathlib import Path
from typing import Any

import pytest
import typer.main
from rich.cells import cell_len
from typer.testing import CliRunner

from tegakari.cli.app import COMMANDS as SECTIONS
from tegakari.cli.app import app
from tegakari.cli.renamed_options import RENAMED
from tests.support.factories import LABELS, make_run


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
        (["labels", "--run", "none", "--store", "nowhere"], "nowhere has no runs"),
        (["sql", "SELECT 1 FROM labels", "--run", "none"], "no run 'none'"),
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
        (["knockout", "--run", "a", "--label", "x"], "add --layer N"),
        (["classify", "--run", "a", "--text", ""], "a text is empty"),
        (["encode", "--run", "a", "--text", "x", "--text", ""], "a text is empty"),
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


def test_a_pipe_gets_whole_lines(tmp_path: Path):
    """As `tegakari runs list | grep NAME`: nothing is broken, shortened or left out, however narrow the terminal."""
    name = f"run-{'x' * 60}"
    make_run(tmp_path / "store", name)
    done = tegakari("runs", "list", cwd=tmp_path)
    (line,) = (line for line in done.stdout.splitlines() if name in line)
    (summary,) = json.loads(tegakari("runs", "list", "--json", cwd=tmp_path).stdout)["items"]
    assert summary["classifier"]["architecture"] in line


def test_a_terminal_gets_lines_of_its_width(tmp_path: Path):
    make_run(tmp_path / "store", "a-run")
    parent, child = os.openpty()
    fcntl.ioctl(child, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 60, 0, 0))
    environment = {**os.environ, "TERM": "xterm", "NO_COLOR": "1"}
    environment.pop("COLUMNS", None)
    command = [sys.executable, "-c", "from tegakari.cli import main; main()", "runs", "list"]
    subprocess.run(command, stdin=child, stdout=child, cwd=tmp_path, check=True, env=environment)
    os.close(child)
    text = re.sub(r"\x1b\[[0-9;]*m", "", os.read(parent, 65536).decode())
    os.close(parent)
    assert "a-run" in text
    assert max(map(cell_len, text.splitlines())) <= 60
    assert "… without" in text


@pytest.mark.parametrize(
    ("words", "completed"),
    [
        ("labels --run a-", ["a-run"]),
        ("compare --run a-run --run b", ["b-run"]),
        ("features --run a-run --label ", list(LABELS)),
    ],
)
def test_the_shell_completes_names(words: str, completed: list[str], tmp_path: Path):
    for name in ("a-run", "b-run"):
        make_run(tmp_path / "store", name)
    environment = {
        "_TEGAKARI_COMPLETE": "complete_bash",
        "COMP_WORDS": f"tegakari {words}",
        "COMP_CWORD": str(len(f"tegakari {words}x".split()) - 1),
        "TEGAKARI_STORE": str(tmp_path / "store"),
    }
    result = CliRunner().invoke(app, [], prog_name="tegakari", env=environment)
    assert result.stdout.split("\n")[: len(completed)] == completed


def test_a_default_run_is_taken_from_the_environment_or_the_configuration(tmp_path: Path):
    for name in ("a-run", "b-run"):
        make_run(tmp_path / "store", name)
    (tmp_path / "tegakari.toml").write_text('[index]\nrun = "a-run"\n')
    assert "Labels of a-run" in tegakari("labels", cwd=tmp_path).stdout
    done = CliRunner().invoke(app, ["labels", "--store", str(tmp_path / "store")], env={"TEGAKARI_RUN": "b-run"})
    assert "Labels of b-run" in done.stdout
    assert "Sparsity of a-run" in tegakari("sparsity", cwd=tmp_path).stdout


def test_a_run_is_deleted_after_a_question_or_with_yes(tmp_path: Path):
    make_run(tmp_path / "store", "a-run")
    refused = tegakari("runs", "delete", "a-run", cwd=tmp_path)
    assert (refused.returncode, (tmp_path / "store/runs/a-run").is_dir()) == (2, True)
    assert "give --yes" in refused.stderr
    assert tegakari("runs", "delete", "a-run", "--yes", cwd=tmp_path).returncode == 0
    assert not (tmp_path / "store/runs/a-run").exists()


@pytest.mark.parametrize(("path", "command"), COMMANDS, ids=[" ".join(path) for path, _ in COMMANDS])
def test_options_have_one_spelling(path: tuple[str, ...], command: Any):
    options = {spelling for parameter in command.params for spelling in parameter.opts}
    assert not options & set(RENAMED)
    assert "--json" in options or path[0] in ("serve", "mcp", "demo")


def test_every_command_is_in_a_section_of_the_help_page():
    root: Any = typer.main.get_command(app)
    assert all(command.rich_help_panel in SECTIONS for command in root.commands.values())


def test_a_csv_file_has_the_fields_of_the_json(tmp_path: Path):
    make_run(tmp_path / "store", "a-run")
    store = ["--run", "a-run", "--store", str(tmp_path / "store")]
    file = tmp_path / "labels.csv"
    result = CliRunner().invoke(app, ["labels", *store, "--csv", str(file), "--json"], catch_exceptions=False)
    items = json.loads(result.stdout)["items"]
    with file.open(encoding="utf-8") as text:
        rows = list(csv.DictReader(text))
    assert [row["label"] for row in rows] == [item["label"] for item in items]
    assert list(rows[0]) == list(items[0])


def test_a_cut_list_says_so(tmp_path: Path):
    make_run(tmp_path / "store", "a-run")
    arguments = ["documents", "--run", "a-run", "--store", str(tmp_path / "store")]
    cut = CliRunner().invoke(app, [*arguments, "-k", "2"], catch_exceptions=False).stdout
    assert "… 2 rows, and there are more; -k 50 or --all shows more" in cut
    whole = CliRunner().invoke(app, [*arguments, "--all"], catch_exceptions=False).stdout
    assert "there are more" not in whole
    items = json.loads(CliRunner().invoke(app, [*arguments, "--all", "--json"]).stdout)["items"]
    assert len(items) == len(whole.splitlines()) - 3
    two = json.loads(CliRunner().invoke(app, [*arguments, "-k", "2", "--json"]).stdout)
    rest = CliRunner().invoke(app, [*arguments, "--cursor", two["next"], "--all", "--json"]).stdout
    assert two["items"] + json.loads(rest)["items"] == items


def test_doctor_names_the_problem(tmp_path: Path):
    (tmp_path / "tegakari.toml").write_text("[index]\nrum = 1\n")
    done = tegakari("doctor", "--store", str(tmp_path), "--json", cwd=tmp_path)
    assert done.returncode == 1
    checks = {check["what"]: check for check in json.loads(done.stdout)["items"]}
    assert checks["configuration"]["state"] == "problem"
    assert "index.rum" in checks["configuration"]["value"]
    assert checks["store"]["state"] == "ok"
    assert checks["runs"]["state"] == "note"


def test_the_configuration_is_checked(tmp_path: Path):
    assert tegakari("init", "--preset", "tiny", cwd=tmp_path).returncode == 0
    done = tegakari("config", "check", "--json", cwd=tmp_path)
    checks = {check["what"]: check for check in json.loads(done.stdout)["items"]}
    assert (done.returncode, checks["corpus.source"]["state"]) == (1, "problem")
    (tmp_path / "posts.csv").write_text("id,title,body,label\n")
    assert tegakari("config", "check", cwd=tmp_path).returncode == 0
