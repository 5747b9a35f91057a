"""Progress of a command: bars on a terminal, a few plain lines in a log."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from tegakari.cli import output


def test_a_log_has_one_line_per_stage_and_one_per_interval(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    with output.progress() as progress:
        progress.stage("reading rows")
        progress.advance(1000)
        progress.stage("training", 4000, done=1000)
        progress.note("loss 0.512")
        progress.advance()
        monkeypatch.setattr(output, "LINE_SECONDS", 0.0)
        progress.advance(499)
        progress.note("")
        progress.advance(0)
    assert capsys.readouterr().err.splitlines() == [
        "reading rows: 0",
        "training: 1,000 of 4,000",
        "training: 1,500 of 4,000, loss 0.512",
        "training: 1,500 of 4,000",
    ]


def test_a_terminal_has_one_bar_per_name_of_a_stage(monkeypatch: pytest.MonkeyPatch):
    terminal = io.StringIO()
    monkeypatch.setattr(output, "err", Console(file=terminal, force_terminal=True, width=100, color_system=None))
    with output.progress() as progress:
        progress.stage("reading rows")
        progress.advance(7)
        progress.stage("training [b]", 4, done=1)
        progress.advance(3)
        progress.note("loss 0.512")
        progress.stage("reading rows")
        progress.advance(9)
    lines = terminal.getvalue().splitlines()
    rows = [line for line in lines if "reading rows" in line or "training" in line]
    assert "9/9" in rows[-2]
    assert "training [b], loss 0.512" in rows[-1]
    assert "4/4" in rows[-1]
