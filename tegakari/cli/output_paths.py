"""Paths that a command writes to, checked while its options are read: nothing is computed for a file that cannot be."""

from __future__ import annotations

import os
from pathlib import Path

import typer


def output_file(path: Path | None) -> Path | None:
    """The file of an option such as `--csv`, checked; None where the option is not given."""
    if path is not None:
        check_output_file(path)
    return path


def check_output_file(path: Path) -> None:
    """Refuse a file that cannot be written.

    Raises:
        BadParameter: it is a directory, its directory does not exist, or it cannot be written.
    """
    if path.is_dir():
        raise typer.BadParameter(f"{path} is a directory; give the name of a file")
    if not path.parent.is_dir():
        raise typer.BadParameter(f"{path.parent} is not a directory; create it, or give another file")
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise typer.BadParameter(f"{path} cannot be written; give a file in a directory that you may write to")


def output_directory(path: Path | None) -> Path | None:
    """The directory of an option such as `--tables`, which is created if it does not exist.

    Raises:
        BadParameter: it is a file, or it cannot be created or written.
    """
    if path is None:
        return None
    existing = path.absolute()
    while not existing.exists():
        existing = existing.parent
    if not existing.is_dir():
        raise typer.BadParameter(f"{existing} is a file; give a directory")
    if not os.access(existing, os.W_OK):
        raise typer.BadParameter(f"{existing} cannot be written; give a directory that you may write to")
    return path
