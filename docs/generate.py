"""Write the pages that come from the code: `make docs`. A test compares them with what this would write."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer.main

from tegakari.cli.app import app
from tegakari.schemas.config import Config
from tegakari.schemas.config.render import render_config
from tegakari.schemas.tables import ACTIVATIONS, ANALYSIS_TABLES, TABLES, Table
from tegakari.store.sql.views import ANALYSES, RUNS

HERE = Path(__file__).parent


def pages() -> dict[str, str]:
    """File name -> content of every generated page."""
    return {"tables.md": tables_page(), "configuration.md": configuration_page(), "cli.md": cli_page()}


def tables_page() -> str:
    """Render the schema of a run."""
    head = (
        "# Tables of a run\n\n"
        "`index.duckdb` holds these tables. Rows are stored in the order of the key, which is unique.\n"
        "Any DuckDB since 1.2 opens the file read-only:\n\n"
        "```\nduckdb -readonly store/runs/<run>/index.duckdb\n```\n"
    )
    views = (
        "\n# Tables of a store\n\n"
        "`tegakari sql` and `POST /v1/sql` show the tables above of all runs, with a `run` column in front, and\n"
        "these:\n"
    )
    own = "".join(_table(table) for table in (*TABLES, ACTIVATIONS))
    analyses = (
        "\n# Tables of analyses\n\n"
        "Results that were computed on finished runs lie beside them as Parquet, `store/analyses/<kind>/<key>/`:\n"
    )
    shown = "".join(_table(table) for table in (RUNS, ANALYSES))
    return head + own + views + shown + analyses + "".join(_table(table) for table in ANALYSIS_TABLES)


def _table(table: Table) -> str:
    lines = [
        f"\n## {table.name}\n\n{table.about}\n\nKey: {', '.join(table.order)}.\n",
        "\n| column | type | meaning |\n|---|---|---|\n",
    ]
    lines += [f"| `{column.name}` | {column.type} | {column.about} |\n" for column in table.columns]
    return "".join(lines)


def configuration_page() -> str:
    """Render every key with its default."""
    return (
        "# Configuration\n\nOne file, `tegakari.toml`, written by `tegakari init`. All keys, with their defaults:\n\n"
        f"```toml\n{render_config(Config())}```\n"
    )


def cli_page() -> str:
    """Render every command with its options and example."""
    parts = ["# Commands\n\nExit codes: 0 done, 1 an error that is explained, 2 wrong usage, 130 interrupted.\n"]
    root = typer.main.get_command(app)
    _commands(root, "tegakari", parts)
    return "".join(parts)


def _commands(command: Any, path: str, parts: list[str]) -> None:
    children = getattr(command, "commands", None)
    if children is not None and path == "tegakari":
        for name, child in children.items():
            _commands(child, f"{path} {name}", parts)
        return
    help_text = (command.help or "").replace("[bold]", "`").replace("[/]", "`")
    parts.append(f"\n## {path}\n\n{help_text.strip()}\n")
    rows = [
        f"| `{' '.join(parameter.opts)}` | {getattr(parameter, 'help', '') or ''} |\n"
        for parameter in command.params
        if parameter.name != "help"
    ]
    if rows:
        parts.append("\n| option | meaning |\n|---|---|\n" + "".join(rows))
    for name, child in (children or {}).items():
        _commands(child, f"{path} {name}", parts)


if __name__ == "__main__":
    for name, content in pages().items():
        (HERE / name).write_text(content, encoding="utf-8")
