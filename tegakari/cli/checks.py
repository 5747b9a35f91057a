"""Checks of `doctor` and `config check`: what was looked at, what was found, and whether it is in the way."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

import msgspec
import typer

from tegakari.cli.output import page_of, print_json, print_table, print_text

EXIT_PROBLEM = 1


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """One check."""

    what: str
    state: Literal["ok", "note", "problem"]
    """note: something is missing that other commands bring, or that not everybody needs"""
    value: str
    fix: str | None = None


def print_checks(title: str, checks: list[Check], *, json: bool) -> None:
    """Print checks, and end the command with exit code 1 if there is a problem."""
    problems = [check for check in checks if check.state == "problem"]
    if json:
        print_json(page_of(checks))
    else:
        print_table(title, ("what", "state", "value"), [(check.what, check.state, check.value) for check in checks])
        for check in checks:
            if check.fix and check.state != "ok":
                print_text(f"{check.what}: {check.fix}")
        print_text(f"{len(problems)} problems" if len(problems) != 1 else "1 problem")
    if problems:
        raise typer.Exit(EXIT_PROBLEM)


def directory_check(what: str, path: Path, *, made_by: str) -> Check:
    """Whether a directory exists and can be written; a missing one is made by a command."""
    if path.is_dir():
        if os.access(path, os.R_OK | os.W_OK | os.X_OK):
            return Check(what=what, state="ok", value=str(path))
        return Check(what=what, state="problem", value=f"{path} cannot be written", fix=f"chmod u+rwx {path}")
    if path.exists():
        return Check(what=what, state="problem", value=f"{path} is no directory", fix="choose another path")
    parent = next(parent for parent in path.absolute().parents if parent.exists())
    if not os.access(parent, os.W_OK | os.X_OK):
        return Check(what=what, state="problem", value=f"{path} cannot be made", fix=f"chmod u+rwx {parent}")
    return Check(what=what, state="note", value=f"{path} does not exist", fix=f"`{made_by}` makes it")
