"""`tegakari runs`: what is published."""

from __future__ import annotations

from typing import Annotated

import typer

from tegakari.cli.options import JsonOption, StoreOption, store_directory
from tegakari.cli.output import out, print_json, print_table
from tegakari.schemas.errors import StoreError

app = typer.Typer(help="Published runs: list, show, verify, delete.", invoke_without_command=True)

RunArgument = Annotated[str, typer.Argument(help="Name of a published run.")]


@app.callback()
def runs(context: typer.Context, store: StoreOption = None, json: JsonOption = False) -> None:
    """List the published runs, or do something with one.

    Example: [bold]tegakari runs[/]
    """
    if context.invoked_subcommand is None:
        list_(store, json)


@app.command("list")
def list_(store: StoreOption = None, json: JsonOption = False) -> None:
    """List the published runs.

    Example: [bold]tegakari runs list --json[/]
    """
    from tegakari.store import Store
    from tegakari.store.queries import summary

    found = [summary(run) for run in Store(store_directory(store)).runs()]
    if json:
        print_json(found)
        return
    print_table(
        "Runs",
        ("run", "created", "classifier", "layers", "d_sae", "documents", "labels", "macro-F1"),
        [
            (
                row.run,
                row.created,
                row.classifier.architecture,
                len(row.saes.layers),
                max(row.saes.widths),
                row.corpus.documents,
                row.corpus.labels,
                row.scores.macro_f1,
            )
            for row in found
        ],
    )


@app.command("show")
def show(run: RunArgument, store: StoreOption = None) -> None:
    """Print all that is recorded of a run, as JSON.

    Example: [bold]tegakari runs show demo-jpn[/]
    """
    from tegakari.store import Store

    print_json(Store(store_directory(store)).run(run).manifest)


@app.command("verify")
def verify(run: RunArgument, store: StoreOption = None) -> None:
    """Read every file of a run again and compare it with its checksum.

    Example: [bold]tegakari runs verify demo-jpn[/]
    """
    from tegakari.store.publish import damaged_files

    problems = damaged_files(store_directory(store), run)
    if problems:
        raise StoreError(
            "; ".join(problems), field=f"run {run}", fix="delete the run and index again, or restore it from a copy"
        )
    out.print(f"run {run}: every file is as it was published")


@app.command("delete")
def delete(run: RunArgument, store: StoreOption = None) -> None:
    """Delete a run, with one rename, then its files.

    Example: [bold]tegakari runs delete demo-jpn[/]
    """
    from tegakari.store.publish import delete_run

    delete_run(store_directory(store), run)
    out.print(f"run {run} deleted")
