"""`tegakari analyses`: stored results of analyses."""

from __future__ import annotations

from typing import Annotated

import typer

from tegakari.cli.options import JsonOption, StoreOption, open_source
from tegakari.cli.output import out, print_json, print_list, print_table

app = typer.Typer(no_args_is_help=True, help="List, show and delete stored results of analyses.")

IdArgument = Annotated[
    str, typer.Argument(metavar="ID", help="Id of the analysis, as `tegakari analyses list` shows it.")
]

MEGABYTE = 1e6


@app.command("list")
def list_analyses(
    run: Annotated[str | None, typer.Option("--run", "-r", help="Only analyses of this run.")] = None,
    kind: Annotated[
        str | None,
        typer.Option("--kind", help="knockout, smallest-set, circuit, variants, specificity or study; default: all."),
    ] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=1000, help="Rows.")] = 100,
    cursor: Annotated[str | None, typer.Option("--cursor", help="`next` of the page before.")] = None,
    store: StoreOption = None,
    json: JsonOption = False,
) -> None:
    """List stored analyses, newest first, with the settings that differ from the defaults.

    Example: [bold]tegakari analyses list --run demo-jpn --kind circuit[/]
    """
    page = open_source(store).analyses(run, kind=kind, limit=limit).page(cursor)
    print_list(
        page.items,
        {
            "id": "id",
            "kind": "kind",
            "runs": lambda row: ", ".join(row.runs),
            "settings": "settings_text",
            "created": "created",
            "seconds": lambda row: f"{row.seconds:.1f}",
            "MB": lambda row: f"{row.size / MEGABYTE:.2f}",
            "version": "version",
        },
        title="Stored analyses",
        json=json,
        document=page,
    )
    if page.next and not json:
        out.print(f"more: --cursor {page.next}", soft_wrap=True)


@app.command("show")
def show(analysis: IdArgument, store: StoreOption = None, json: JsonOption = False) -> None:
    """Show a stored analysis: what it is computed from and its settings; with --json also its result.

    Example: [bold]tegakari analyses show 0123456789abcdef0123456789abcdef --json[/]
    """
    detail = open_source(store).analysis(analysis)
    if json:
        print_json(detail)
        return
    facts = [
        ("kind", detail.kind),
        ("runs", ", ".join(detail.runs)),
        ("default settings", detail.is_default),
        ("created", detail.created),
        ("seconds", f"{detail.seconds:.1f}"),
        ("MB", f"{detail.size / MEGABYTE:.2f}"),
        ("versions", ", ".join(f"{name} {version}" for name, version in detail.versions.items())),
    ]
    settings = [(f"settings: {name}", str(value)) for name, value in detail.settings.items() if value is not None]
    print_table(f"Analysis {detail.id}", ("", ""), [*facts, *settings])
    out.print("--json shows the result", soft_wrap=True)


@app.command("delete")
def delete(analysis: IdArgument, store: StoreOption = None) -> None:
    """Delete a stored analysis; the same command or request computes it again.

    Example: [bold]tegakari analyses delete 0123456789abcdef0123456789abcdef[/]
    """
    open_source(store).delete_analysis(analysis)
    out.print(f"analysis {analysis} deleted")
