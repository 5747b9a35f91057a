"""`tegakari knockout`: ablate features and re-run the classifier; tables, curves and searches of many knockouts."""

from __future__ import annotations

import typer

from tegakari.cli.knockout import ablate, curve, single, smallest, table

app = typer.Typer(invoke_without_command=True)
app.callback()(ablate.knockout)
for command in (table.table, curve.curve, single.single, smallest.smallest):
    app.command()(command)

__all__ = ["app"]
