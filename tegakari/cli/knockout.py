"""`tegakari knockout`: what breaks without a label's features."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, TypeVar

import msgspec
import typer

from tegakari.analyses.formatting import KNOCKOUT_COLUMNS, knockout_cells
from tegakari.cli.options import DeviceOption, JsonOption, PoolingOption, StoreOption, store_directory
from tegakari.cli.output import out, print_json, print_table, progress
from tegakari.schemas.errors import ConfigError
from tegakari.schemas.knockout import KnockoutResult, KnockoutSettings

T = TypeVar("T")

LayerOption = Annotated[int, typer.Option(help="Layer, from 0.")]
LabelOption = Annotated[str, typer.Option("--label", "-l", help="Label, as `tegakari labels` shows it.")]
KOption = Annotated[int, typer.Option("-k", help="Features with the largest d that are taken out.")]
ModeOption = Annotated[str, typer.Option(help="error_preserving or reconstruction.")]
PositionsOption = Annotated[str, typer.Option(help="all, or last: only the last position.")]
DrawsOption = Annotated[int, typer.Option(help="Sets of other features in each control.")]
SeedOption = Annotated[int, typer.Option(help="Of the controls and the intervals.")]


def converted(kind: type[T], **asked: object) -> T:
    """What was asked for on the command line, checked.

    Raises:
        ConfigError: an option has a value that is not allowed.
    """
    try:
        return msgspec.convert(asked, kind)
    except msgspec.ValidationError as error:
        reason, _, where = str(error).partition(" - at `$.")
        raise ConfigError(reason, field=f"--{where.rstrip('`')}", fix="see `tegakari knockout --help`") from None


app = typer.Typer(invoke_without_command=True)


@app.callback()
def knockout(
    context: typer.Context,
    run: Annotated[str | None, typer.Option("--run", "-r", help="Name of a published run.")] = None,
    label: Annotated[
        list[str] | None, typer.Option("--label", "-l", help="Label; may be given more than once.")
    ] = None,
    layer: Annotated[list[int] | None, typer.Option(help="Layer; repeatable.")] = None,
    k: KOption = 20,
    feature: Annotated[
        list[str] | None, typer.Option("--feature", "-f", help="LAYER:FEATURE, instead of a label's; repeatable.")
    ] = None,
    documents_of: Annotated[str | None, typer.Option(help="Documents of this label; default: of --label.")] = None,
    document: Annotated[list[str] | None, typer.Option(help="Document of the run, by id; repeatable.")] = None,
    text: Annotated[list[str] | None, typer.Option(help="Title, newline, body; repeatable.")] = None,
    pooling: PoolingOption = None,
    mode: ModeOption = "error_preserving",
    positions: PositionsOption = "all",
    draws: DrawsOption = 5,
    seed: SeedOption = 0,
    details: Annotated[str, typer.Option(help="Of each document, in --json: none, predictions or logits.")] = "none",
    device: DeviceOption = "auto",
    store: StoreOption = None,
    json: JsonOption = False,
) -> None:
    """Take features out of a layer, and see what the classifier makes of the documents.

    An answer is stored; asked again, it is read.

    Example: [bold]tegakari knockout --run demo-jpn --label 自動車 --layer 2 -k 20[/]

    Example: [bold]tegakari knockout --run demo-jpn --feature 2:17 --feature 3:4 --documents-of 自動車[/]
    """
    if context.invoked_subcommand:
        return
    from tegakari.analyses.engine.run_models import model_loader
    from tegakari.analyses.knockout import knock_out_all
    from tegakari.store import Store

    if run is None:
        raise ConfigError("it is missing", field="--run", fix="see `tegakari runs list`")
    directory = store_directory(store)
    opened = Store(directory).run(run)
    common = {
        "documents_of": documents_of,
        "documents": document or None,
        "texts": text or None,
        "mode": mode,
        "positions": positions,
        "draws": draws,
        "seed": seed,
        "details": details,
    }
    if feature and not label and not layer:
        asked = [converted(KnockoutSettings, features=[_feature(each) for each in feature], **common)]
    elif label and layer and not feature:
        common |= {"k": k, "pooling": pooling}
        asked = [converted(KnockoutSettings, label=name, layer=number, **common) for name in label for number in layer]
    else:
        raise ConfigError(
            "give either a label and a layer, or features", field="--label", fix="see `tegakari knockout --help`"
        )
    with progress() as bars:
        results = knock_out_all(
            directory,
            opened,
            model_loader(opened, device),
            asked,
            progress=bars,
        )
    if json:
        print_json(results)
        return
    show(f"Recall without the features, {run}", results)


def _feature(text: str) -> dict[str, int]:
    layer, _, feature = text.partition(":")
    if not (layer.isdigit() and feature.isdigit()):
        raise ConfigError(f"{text!r} is no feature", field="--feature", fix="write LAYER:FEATURE, as 2:17")
    return {"layer": int(layer), "feature": int(feature)}


def show(title: str, results: Sequence[KnockoutResult]) -> None:
    """Knockouts as a table."""
    print_table(
        title,
        ("label", "layer", "k", "documents", *KNOCKOUT_COLUMNS[1:], "go to"),
        [
            (
                row.settings.label or row.settings.documents_of or "-",
                cells.layer,
                len(row.features),
                row.documents,
                *cells[1:],
                ", ".join(f"{place.label} {place.documents}" for place in row.lost[:1]),
            )
            for row, cells in zip(results, map(knockout_cells, results), strict=True)
        ],
    )
    for row in results:
        if row.recall_reconstructed is not None:
            out.print(
                f"{row.settings.label or 'these features'}: reconstruction with nothing taken out: "
                f"{row.recall_reconstructed:.3f}"
            )


def show_beside(tables: Mapping[str, Sequence[KnockoutResult]]) -> None:
    """Knockouts of the same labels in several runs, side by side."""
    print_table(
        f"Recall without a label's features: {' | '.join(tables)}",
        ("label", *(name for _ in tables for name in KNOCKOUT_COLUMNS)),
        [
            (
                rows[0].settings.label,
                *(cell for row in rows for cell in knockout_cells(row)),
            )
            for rows in zip(*tables.values(), strict=True)
        ],
    )
