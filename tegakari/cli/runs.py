"""`tegakari runs`: published runs."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from tegakari.cli.bucket_runs import (
    RunState,
    bucket_summaries,
    collect_bucket,
    confirm_deletion,
    delete_bucket_run,
    open_bucket,
    print_state,
    pull,
    push,
)
from tegakari.cli.options import (
    DEFAULT_CONFIG,
    AnyStoreOption,
    BomOption,
    CsvOption,
    DeviceOption,
    DirectoryOrBucketOption,
    JsonOption,
    SpreadsheetOption,
    StoreDirectoryOption,
    complete_run,
    is_address,
    is_bucket,
    open_source,
    store_directory,
    store_name,
)
from tegakari.cli.output import err, page_of, print_json, print_list, print_table, print_text, progress, set_up_logging
from tegakari.cli.output_paths import output_directory
from tegakari.extras import needs_extra
from tegakari.schemas.errors import StoreError

app = typer.Typer(
    help="Published runs: list, show, verify, export, publish, delete, collect garbage.",
    invoke_without_command=True,
)

COMMAND = "runs"

RunArgument = Annotated[str, typer.Argument(help="Name of a published run.", autocompletion=complete_run)]


@app.callback()
def runs(context: typer.Context, store: AnyStoreOption = None, csv: CsvOption = None, json: JsonOption = False) -> None:
    """List the published runs; subcommands inspect, export, publish and delete them.

    Example: [bold]tegakari runs[/]
    """
    if context.invoked_subcommand is None:
        list_(store, csv, json)
    elif context.invoked_subcommand != "list":
        set_up_logging()


@app.command("list")
def list_(store: AnyStoreOption = None, csv: CsvOption = None, json: JsonOption = False) -> None:
    """List the published runs.

    Example: [bold]tegakari runs list --json[/]
    """
    name = store_name(store)
    rows = bucket_summaries(name) if is_bucket(name) else list(open_source(store).runs())
    print_list(
        rows,
        {
            "run": "run",
            "created": lambda row: row.created[:16].replace("T", " "),
            "documents": "corpus.documents",
            "labels": "corpus.labels",
            "layers": lambda row: len(row.saes.layers),
            "d_sae": lambda row: max(row.saes.widths),
            "macro-F1": "scores.macro_f1",
            "classifier": "classifier.architecture",
        },
        title="Runs" if rows else "",
        json=json,
        csv=csv,
    )
    if not rows:
        print_text(f"no runs in {_place(store)}; `tegakari index` publishes one, --store names another", console=err)


def _place(store: str | None) -> str:
    """The store in use, as a person can look for it."""
    name = store_name(store)
    return name if is_address(name) or is_bucket(name) else f"the store {Path(name).absolute()}"


app.command("push")(push)
app.command("pull")(pull)


@app.command("show")
@needs_extra("store")
def show(run: RunArgument, store: DirectoryOrBucketOption = None, json: JsonOption = False) -> None:
    """Show what a run was made from and what it holds; with --json run.json, with settings, versions and checksums.

    Example: [bold]tegakari runs show demo-jpn[/]
    """
    name = store_name(store)
    if is_bucket(name):
        bucket = open_bucket(name)
        from tegakari.store.objects.published_runs import existing_run

        manifest = existing_run(bucket, run).manifest
    else:
        from tegakari.store import Store

        manifest = Store(store_directory(store)).run(run).manifest
    if json:
        print_json(manifest)
        return
    layers = manifest.saes.layers
    print_table(
        f"Run {run}",
        ("what", "value"),
        [
            ("created", manifest.created),
            ("fingerprint", manifest.fingerprint),
            ("classifier", f"{manifest.classifier.architecture}, {manifest.locations.classifier}"),
            ("SAEs", f"{manifest.locations.saes}, layers {', '.join(map(str, layers))}"),
            ("documents", manifest.corpus.documents),
            ("labels", manifest.corpus.labels),
            ("positions", manifest.positions),
            ("pooling", manifest.pooling),
            ("macro-F1", manifest.scores.macro_f1),
            ("left out", "; ".join(f"{drop.count} documents, {drop.reason}" for drop in manifest.skipped) or "nothing"),
        ],
    )


@app.command("verify")
@needs_extra("store")
def verify(run: RunArgument, store: DirectoryOrBucketOption = None, json: JsonOption = False) -> None:
    """Read every file of a run again and compare it with its checksum.

    Example: [bold]tegakari runs verify demo-jpn[/]
    """
    name = store_name(store)
    if is_bucket(name):
        bucket = open_bucket(name)
        from tegakari.store.objects.verify import damaged_objects

        with progress() as bars:
            problems = damaged_objects(bucket, run, bars)
    else:
        from tegakari.store.disk.publish import damaged_files

        problems = damaged_files(store_directory(store), run)
    if problems:
        raise StoreError(
            "; ".join(problems), field=f"run {run}", fix="delete the run and index again, or restore it from a copy"
        )
    print_state(f"run {run}: every file matches its checksum", RunState(run=run, state="verified"), json)


@app.command("delete")
@needs_extra("store")
def delete(
    run: RunArgument,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    store: DirectoryOrBucketOption = None,
    json: JsonOption = False,
) -> None:
    """Delete a run, with one rename, then its files; notes on its features stay. Asks first, or needs --yes.

    Example: [bold]tegakari runs delete demo-jpn --yes[/]
    """
    from tegakari.store import Store
    from tegakari.store.disk.layout import notes_directory, run_directory
    from tegakari.store.disk.publish import delete_run, read_manifest
    from tegakari.store.notes import count_notes

    name = store_name(store)
    if is_bucket(name):
        delete_bucket_run(name, run, yes=yes)
        print_state(f"run {run} deleted", RunState(run=run, state="deleted"), json)
        return
    directory = store_directory(store)
    kept_notes = ""
    with suppress(StoreError, FileNotFoundError):  # a damaged run can be deleted as well
        manifest = read_manifest(run_directory(directory, run))
        if notes := count_notes(directory, manifest):
            kept_notes = f"; notes on its features stay ({notes:,}) in {notes_directory(directory, manifest)}"
    if not yes:
        confirm_deletion(Store(directory).run(run).manifest, str(directory.absolute()))
    delete_run(directory, run)
    print_state(f"run {run} deleted{kept_notes}", RunState(run=run, state="deleted"), json)


@app.command("export")
@needs_extra("store")
def export(
    run: RunArgument,
    to: Annotated[Path, typer.Option("--to", help="New directory.", callback=output_directory)],
    form: Annotated[
        str,
        typer.Option("--format", help="parquet, arrow, csv or xlsx (lists are JSON), or neuronpedia's bulk import."),
    ] = "parquet",
    table: Annotated[
        list[str] | None, typer.Option("--table", help="Only this table; repeatable. Default: all.")
    ] = None,
    creator: Annotated[str, typer.Option(help="For neuronpedia: creator id.")] = "tegakari",
    spreadsheet: SpreadsheetOption = False,
    bom: BomOption = False,
    store: StoreDirectoryOption = None,
    json: JsonOption = False,
) -> None:
    """Export the tables of a run, activations and notes included, to Parquet, Arrow, CSV or XLSX.

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
            rows = export_run(
                opened,
                to,
                file_format=form,
                tables=table or (),
                spreadsheet=spreadsheet,
                bom=bom,
                progress=bars,
            )
    if json:
        print_json(page_of([{"table": name, "rows": count} for name, count in rows.items()]))
    else:
        print_table(f"Run {run} in {to}", ("table", "rows"), rows.items())


@app.command("publish")
@needs_extra("store")
def publish(
    directory: Annotated[Path, typer.Argument(help="Directory of a run of another store, with its run.json.")],
    store: StoreDirectoryOption = None,
    json: JsonOption = False,
) -> None:
    """Publish a copy of a run that was indexed elsewhere, after comparing every file with its checksum.

    Example: [bold]tegakari runs publish /mnt/gpu-box/store/runs/demo-jpn --store store[/]
    """
    from tegakari.store.disk.publish import adopt_run

    manifest = adopt_run(store_directory(store), directory)
    print_state(f"run {manifest.run} published", RunState(run=manifest.run, state="published"), json)


@app.command("add-vectors")
@needs_extra("store")
def add_vectors_(
    run: RunArgument, store: StoreDirectoryOption = None, device: DeviceOption = "auto", json: JsonOption = False
) -> None:
    """Add decoder directions, document embeddings and the index of words to a run indexed without LanceDB.

    Example: [bold]tegakari runs add-vectors demo-jpn[/]
    """
    from tegakari.analyses.add_vectors import add_vectors
    from tegakari.store import Store

    directory = store_directory(store)
    with progress() as bars:
        add_vectors(directory, Store(directory).run(run), device=device, progress=bars)
    print_state(f"run {run} has vectors", RunState(run=run, state="with vectors"), json)


@app.command("add-contexts")
@needs_extra("index")
def add_contexts_(
    run: RunArgument, store: StoreDirectoryOption = None, device: DeviceOption = "auto", json: JsonOption = False
) -> None:
    """Add contexts, probes, label effects and explanations of features to a run without them; resumes if interrupted.

    Example: [bold]tegakari runs add-contexts demo-jpn[/]
    """
    from tegakari.analyses.add_explanations import add_explanations
    from tegakari.analyses.engine.run_models import load_run_models
    from tegakari.indexer.add_contexts import add_contexts
    from tegakari.store import Store
    from tegakari.store.contexts import has_contexts
    from tegakari.store.explanations.term_files import explanations_of_run

    opened = Store(store_directory(store)).run(run)
    with progress() as bars:
        if has_contexts(opened) and explanations_of_run(opened) is None:  # indexed without LanceDB
            add_explanations(opened, progress=bars)
        else:
            models = load_run_models(opened, device)
            add_contexts(opened, models.classifier, models.saes, bars)
    print_state(f"run {run} has contexts", RunState(run=run, state="with contexts"), json)


@app.command("gc")
@needs_extra("store")
def gc(
    delete: Annotated[bool, typer.Option("--delete", help="Remove what is listed.")] = False,
    store: DirectoryOrBucketOption = None,
    json: JsonOption = False,
) -> None:
    """Collect garbage: list or remove abandoned work and files, old jobs, vectors and analyses of deleted runs.

    Example: [bold]tegakari runs gc --delete[/]
    """
    name = store_name(store)
    if is_bucket(name):
        collect_bucket(name, delete=delete, json=json)
        return
    from tegakari.schemas.config import ServiceConfig, load_config
    from tegakari.store.disk.garbage import collect, find_garbage
    from tegakari.store.disk.job_files import Retention

    directory = store_directory(store)
    service = load_config(DEFAULT_CONFIG).service if DEFAULT_CONFIG.is_file() else ServiceConfig()
    garbage = find_garbage(directory, jobs=Retention(service.job_days, service.job_bytes))
    if delete:
        collect(directory, garbage)
    if json:
        rows = [{"path": str(entry.path), "reason": entry.reason, "bytes": entry.size} for entry in garbage]
        print_json(page_of(rows))
        return
    if not garbage:
        print_text(f"no garbage in the store {directory.absolute()}")
        return
    rows = [(str(entry.path.relative_to(directory)), entry.reason, entry.size) for entry in garbage]
    print_table("Removed" if delete else "Removable with --delete", ("path", "why", "bytes"), rows)
