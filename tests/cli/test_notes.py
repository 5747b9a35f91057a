"""`tegakari notes` over a directory, and what the deletion of a run says about them."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from tegakari.cli.app import app
from tegakari.schemas.errors import ConfigError, NotFoundError, QueryError
from tests.support.factories import make_run

Command = Callable[..., Result]


@pytest.fixture
def notes(tmp_path: Path) -> Command:
    make_run(tmp_path / "store", "a-run")

    def run(command: str, *arguments: str) -> Result:
        where = ["--run", "a-run", "--store", str(tmp_path / "store")]
        return CliRunner().invoke(app, ["notes", command, *where, *arguments], catch_exceptions=False)

    return run


def test_a_note_is_written_listed_and_deleted(notes: Command, tmp_path: Path):
    mine = ["--feature", "1:3", "--author", "Ann"]
    assert "written as Ann" in notes("write", *mine, "--star", "--tag", "車", "--tag", "kei", "--text", "軽トラ").stdout
    note = json.loads(notes("write", *mine, "--text", "changed", "--json").stdout)
    assert (note["starred"], note["tags"], note["text"]) == (True, ["車", "kei"], "changed")
    notes("write", "--feature", "0:2", "--author", "Bob", "--text", "other")
    for filters in (["CHANGED"], ["--feature", "1:3"], ["--layer", "1"], ["--tag", "kei"], ["--star"]):
        assert json.loads(notes("list", *filters, "--json").stdout)["items"] == [note]
    assert len(json.loads(notes("list", "--json").stdout)["items"]) == 2
    notes("list", "--csv", str(tmp_path / "notes.csv"))
    with (tmp_path / "notes.csv").open(encoding="utf-8") as text:
        assert [(row["author"], row["text"]) for row in csv.DictReader(text)] == [("Bob", "other"), ("Ann", "changed")]
    assert "deleted the note of Ann on feature 1:3" in notes("delete", *mine).stdout
    with pytest.raises(NotFoundError):
        notes("delete", *mine)
    emptied = notes("write", "--feature", "0:2", "--author", "Bob", "--text", "")
    assert "removed: the note of Bob is empty" in emptied.stdout
    assert json.loads(notes("list", "--json").stdout)["items"] == []


def test_wrong_options_are_named(notes: Command):
    with pytest.raises(ConfigError, match="nothing to write"):
        notes("write", "--feature", "1:3")
    with pytest.raises(ConfigError, match="feature is given as well"):
        notes("list", "--feature", "1:3", "--layer", "1")
    with pytest.raises(QueryError) as raised:
        notes("write", "--feature", "1:3", "--tag", "a,b")
    assert raised.value.field == "tags[0]"


def test_the_deletion_of_a_run_says_that_its_notes_stay(notes: Command, tmp_path: Path):
    notes("write", "--feature", "1:3", "--author", "Ann", "--star")
    delete = ["runs", "delete", "a-run", "--yes", "--store", str(tmp_path / "store")]
    output = CliRunner().invoke(app, delete, catch_exceptions=False).stdout
    assert "run a-run deleted; notes on its features stay (1) in " in output
    assert len(list((tmp_path / "store" / "notes").rglob("*.json"))) == 1
