"""`tegakari analyses`: stored results of analyses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from tegakari.cli.options import CursorOption, JsonOption, RowsOption, StoreOption, open_source
from tegakari.cli.output import print_json, print_list, print_table, print_text
from tegakari.schemas.errors import ConfigError, NotFoundError

if TYPE_CHECKING:
    from tegakari.access.source import Source

app = typer.Typer(no_args_is_help=True, help="List, show and delete stored results of analyses.")

IdArgument = Annotated[str, typer.Argument(metavar="ID", help="Id of the analysis, or its first digits.")]

ID_DIGITS = 32
SHOWN_DIGITS = 8
"""Digits of an id in a table; more than are needed to tell the analyses of a store apart."""

MEGABYTE = 1e6


@app.command("list")
def list_analyses(
    run: Annotated[str | None, typer.Option("--run", "-r", help="Only analyses of this run.")] = None,
    kind: Annotated[
        str | None,
        typer.Option("--kind", help="knockout, smallest-set, circuit, variants, specificity or study; default: all."),
    ] = None,
    limit: RowsOption = 100,
    cursor: CursorOption = None,
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
            "id": lambda row: row.id[:SHOWN_DIGITS],
            "kind": "kind",
            "runs": lambda row: ", ".join(row.runs),
            "settings": "settings_text",
            "created": lambda row: row.created[:10],
        },
        title="Stored analyses",
        drop=("created", "runs"),
        json=json,
        document=page,
    )
    if page.next and not json:
        print_text(f"more: --cursor {page.next}")


@app.command("show")
def show(analysis: IdArgument, store: StoreOption = None, json: JsonOption = False) -> None:
    """Show a stored analysis: what it is computed from and its settings; with --json also its result.

    Example: [bold]tegakari analyses show 0123456789ab --json[/]
    """
    source = open_source(store)
    detail = source.analysis(_whole_id(source, analysis))
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
    print_text("--json shows the result")


@app.command("delete")
def delete(analysis: IdArgument, store: StoreOption = None, json: JsonOption = False) -> None:
    """Delete a stored analysis; the same command or request computes it again.

    Example: [bold]tegakari analyses delete 0123456789ab[/]
    """
    source = open_source(store)
    id_ = _whole_id(source, analysis)
    source.delete_analysis(id_)
    if json:
        print_json({"id": id_, "deleted": True})
    else:
        print_text(f"analysis {id_} deleted")


def _whole_id(source: Source, digits: str) -> str:
    """The id that begins with these digits.

    Raises:
        ConfigError: several do.
        NotFoundError: none does.
    """
    if len(digits) >= ID_DIGITS:
        return digits
    ids = [row.id for row in source.analyses() if row.id.startswith(digits)]
    if len(ids) > 1:
        raise ConfigError(f"{len(ids)} ids begin with {digits!r}", field="ID", fix="give more digits")
    if not ids:
        raise NotFoundError(f"no analysis {digits!r}", field="ID", fix="`tegakari analyses list` shows the ids")
    return ids[0]
