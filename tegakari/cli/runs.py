"""`tegakari runs`: what is published."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tegakari.cli.options import (
    DeviceOption,
    JsonOption,
    StoreDirectoryOption,
    StoreOption,
    open_source,
    store_directory,
)
from tegakari.cli.output import out, print_json, print_table, progress, set_up_logging
from tegakari.extras import needs_extra
from tegakari.schemas.errors import StoreError

app = typer.Typer(
    help="Published runs: list, show, verify, export, publish, delete, and what they leave behind.",
    invoke_without_command=True,
)

COMMAND = "runs"

RunArgument = Annotated[str, typer.Argument(help="Name of a published run.")]


@app.callback()
def runs(context: typer.Context, store: StoreOption = None, json: JsonOption = False) -> None:
    """List the published runs, or do something with one.

    Example: [bold]tegakari runs[/]
    """
    if context.invoked_subcommand is None:
        list_(store, json)
    elif context.invoked_subcommand != "list":
        set_up_logging()


@app.command("list")
def list_(store: StoreOption = None, json: JsonOption = False) -> None:
    """List the published runs.

    Example: [bold]tegakari runs list --json[/]
    """
    rows = list(open_source(store).runs())
    if json:
        print_json(rows)
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
            for row in rows
        ],
    )


@app.command("show")
@needs_extra("store")
def show(run: RunArgument, store: StoreDirectoryOption = None) -> None:
    """Print all that is recorded of a run, as JSON.

    Example: [bold]tegakari runs show demo-jpn[/]
    """
    from tegakari.store import Store

    print_json(Store(store_directory(store)).run(run).manifest)


@app.command("verify")
@needs_extra("store")
def verify(run: RunArgument, store: StoreDirectoryOption = None) -> None:
    """Read every file of a run again and compare it with its checksum.

    Example: [bold]tegakari runs verify demo-jpn[/]
    """
    from tegakari.store.disk.publish import damaged_files

    problems = damaged_files(store_directory(store), run)
    if problems:
        raise StoreError(
            "; ".join(problems), field=f"run {run}", fix="delete the run and index again, or restore it from a copy"
        )
    out.print(f"run {run}: every file is as it was published")


@app.command("delete")
@needs_extra("store")
def delete(run: RunArgument, store: StoreDirectoryOption = None) -> None:
    """Delete a run, with one rename, then its files.

    Example: [bold]tegakari runs delete demo-jpn[/]
    """
    from tegakari.store.disk.publish import delete_run

    delete_run(store_directory(store), run)
    out.print(f"run {run} deleted")


@app.command("export")
@needs_extra("store")
def export(
    run: RunArgument,
    to: Annotated[Path, typer.Option("--to", help="New directory.")],
    form: Annotated[
        str, typer.Option("--format", help="parquet, arrow, csv (lists are JSON), or neuronpedia's bulk import.")
    ] = "parquet",
    table: Annotated[list[str] | None, typer.Option("--table", help="Only these tables; default: all.")] = None,
    creator: Annotated[str, typer.Option(help="For neuronpedia: creator id that it knows.")] = "tegakari",
    store: StoreDirectoryOption = None,
    json: JsonOption = False,
) -> None:
    """Write every table of a run, activations included, as files that any tool reads.

    Example: [bold]tegakari runs export demo-jpn --to exported --format parquet[/]
    """
    from tegakari.store import Store
    from tegakari.store.export.neuronpedia import export_neuronpedia
    from tegakari.store.export.tables import EXPORTED, export_run

    opened = Store(store_directory(store)).run(run)
    layers = opened.manifest.saes.layers
    with progress() as bars:
        bars.stage("exporting", len(layers) if form == "neuronpedia" else len(table or EXPORTED))

        def advance(part: object) -> None:
            bars.note(str(part))
            bars.advance()

        if form == "neuronpedia":
            if table:
                raise StoreError("neuronpedia has no tables to choose", field="--table", fix="leave --table out")
            written = export_neuronpedia(opened, to, creator=creator, advance=advance)
        else:
            written = export_run(opened, to, file_format=form, tables=table or (), advance=advance)
    if json:
        print_json(written)
    else:
        print_table(f"Run {run} in {to}", ("table", "rows"), written.items())


@app.command("publish")
@needs_extra("store")
def publish(
    directory: Annotated[Path, typer.Argument(help="Directory of a run of another store: it holds run.json.")],
    store: StoreDirectoryOption = None,
) -> None:
    """Publish a copy of a run that was indexed elsewhere, after comparing every file with its checksum.

    Example: [bold]tegakari runs publish /mnt/gpu-box/store/runs/demo-jpn --store store[/]
    """
    from tegakari.store.disk.publish import adopt_run

    manifest = adopt_run(store_directory(store), directory)
    out.print(f"run {manifest.run} published")


@app.command("add-vectors")
@needs_extra("store")
def add_vectors_(run: RunArgument, store: StoreDirectoryOption = None, device: DeviceOption = "auto") -> None:
    """Add decoder directions, document embeddings and the index of words to a run indexed without LanceDB.

    Example: [bold]tegakari runs add-vectors demo-jpn[/]
    """
    from tegakari.analyses.add_vectors import add_vectors
    from tegakari.store import Store

    directory = store_directory(store)
    with progress() as bars:
        add_vectors(directory, Store(directory).run(run), device=device, progress=bars)
    out.print(f"run {run} has vectors")


@app.command("gc")
@needs_extra("store")
def gc(
    delete: Annotated[bool, typer.Option("--delete", help="Remove it; without this it is only listed.")] = False,
    store: StoreDirectoryOption = None,
    json: JsonOption = False,
) -> None:
    """List, or remove, what no published run needs: old unfinished work, and what deleted runs left behind.

    Example: [bold]tegakari runs gc --delete[/]
    """
    from tegakari.store.disk.garbage import collect, find_garbage

    directory = store_directory(store)
    found = find_garbage(directory)
    if delete:
        collect(directory, found)
    if json:
        print_json([{"path": str(entry.path), "reason": entry.reason, "bytes": entry.size} for entry in found])
        return
    rows = [(str(entry.path.relative_to(directory)), entry.reason, entry.size) for entry in found]
    print_table("Removed" if delete else "May be removed with --delete", ("path", "why", "bytes"), rows)
