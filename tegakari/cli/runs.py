"""`tegakari runs`: published runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tegakari.cli.options import (
    DEFAULT_CONFIG,
    DeviceOption,
    JsonOption,
    SpreadsheetOption,
    StoreDirectoryOption,
    StoreOption,
    open_source,
    store_directory,
)
from tegakari.cli.output import out, print_json, print_list, print_table, progress, set_up_logging
from tegakari.cli.output_paths import output_directory
from tegakari.extras import needs_extra
from tegakari.schemas.errors import StoreError

app = typer.Typer(
    help="Published runs: list, show, verify, export, publish, delete, collect garbage.",
    invoke_without_command=True,
)

COMMAND = "runs"

RunArgument = Annotated[str, typer.Argument(help="Name of a published run.")]


@app.callback()
def runs(context: typer.Context, store: StoreOption = None, json: JsonOption = False) -> None:
    """List the published runs; subcommands inspect, export, publish and delete them.

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
    print_list(
        list(open_source(store).runs()),
        {
            "run": "run",
            "created": "created",
            "classifier": "classifier.architecture",
            "layers": lambda row: len(row.saes.layers),
            "d_sae": lambda row: max(row.saes.widths),
            "documents": "corpus.documents",
            "labels": "corpus.labels",
            "macro-F1": "scores.macro_f1",
        },
        title="Runs",
        json=json,
    )


@app.command("show")
@needs_extra("store")
def show(run: RunArgument, store: StoreDirectoryOption = None) -> None:
    """Print run.json: inputs, settings, versions, counts and checksums of a run.

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
    out.print(f"run {run}: every file matches its checksum")


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
    to: Annotated[Path, typer.Option("--to", help="New directory.", callback=output_directory)],
    form: Annotated[
        str, typer.Option("--format", help="parquet, arrow, csv (lists are JSON), or neuronpedia's bulk import.")
    ] = "parquet",
    table: Annotated[list[str] | None, typer.Option("--table", help="Only these tables; default: all.")] = None,
    creator: Annotated[str, typer.Option(help="For neuronpedia: creator id.")] = "tegakari",
    spreadsheet: SpreadsheetOption = False,
    store: StoreDirectoryOption = None,
    json: JsonOption = False,
) -> None:
    """Export the tables of a run, activations included, to Parquet, Arrow or CSV.

    Example: [bold]tegakari runs export demo-jpn --to exported --format parquet[/]
    """
    from tegakari.store import Store
    from tegakari.store.export.neuronpedia import export_neuronpedia
    from tegakari.store.export.tables import export_run

    opened = Store(store_directory(store)).run(run)
    with progress() as bars:
        if form == "neuronpedia":
            if table:
                raise StoreError("neuronpedia has no tables to choose", field="--table", fix="leave --table out")
            rows = export_neuronpedia(opened, to, creator=creator, progress=bars)
        else:
            rows = export_run(opened, to, file_format=form, tables=table or (), spreadsheet=spreadsheet, progress=bars)
    if json:
        print_json(rows)
    else:
        print_table(f"Run {run} in {to}", ("table", "rows"), rows.items())


@app.command("publish")
@needs_extra("store")
def publish(
    directory: Annotated[Path, typer.Argument(help="Directory of a run of another store, with its run.json.")],
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
    delete: Annotated[bool, typer.Option("--delete", help="Remove what is listed.")] = False,
    store: StoreDirectoryOption = None,
    json: JsonOption = False,
) -> None:
    """Collect garbage: list or remove abandoned work and files, old jobs, vectors and analyses of deleted runs.

    Example: [bold]tegakari runs gc --delete[/]
    """
    from tegakari.schemas.config import ServiceConfig, load_config
    from tegakari.store.disk.garbage import collect, find_garbage
    from tegakari.store.disk.job_files import Retention

    directory = store_directory(store)
    service = load_config(DEFAULT_CONFIG).service if DEFAULT_CONFIG.is_file() else ServiceConfig()
    garbage = find_garbage(directory, jobs=Retention(service.job_days, service.job_bytes))
    if delete:
        collect(directory, garbage)
    if json:
        print_json([{"path": str(entry.path), "reason": entry.reason, "bytes": entry.size} for entry in garbage])
        return
    rows = [(str(entry.path.relative_to(directory)), entry.reason, entry.size) for entry in garbage]
    print_table("Removed" if delete else "Removable with --delete", ("path", "why", "bytes"), rows)
