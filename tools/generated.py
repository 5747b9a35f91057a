"""The command line of every generator: it writes its files, or with `--check` compares them with those in the tree."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parent.parent


def main(contents: Callable[[], dict[Path, str]], command: str) -> None:
    """Write the files, or exit with 1 if `--check` is given and a file is not current.

    Args:
        contents: gives path -> content of every generated file.
        command: the command line that writes the files; without `--check`.
    """
    parser = argparse.ArgumentParser(prog=command)
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 if a file is not current")
    if parser.parse_args().check:
        outdated = outdated_files(contents())
        for path in outdated:
            print(f"{path.relative_to(ROOT)} is not current: run `{command}`", file=sys.stderr)
        sys.exit(bool(outdated))
    for path, content in contents().items():
        path.write_text(content, encoding="utf-8")


def outdated_files(contents: dict[Path, str]) -> list[Path]:
    """The paths whose file is missing or has another content."""
    return [path for path, content in contents.items() if _content(path) != content]


def _content(path: Path) -> str | None:
    return path.read_text(encoding="utf-8") if path.exists() else None
