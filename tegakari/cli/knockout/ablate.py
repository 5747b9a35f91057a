"""`tegakari knockout`: ablate features of a label, or named ones."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from tegakari.cli.knockout.display import print_knockouts, write_knockouts
from tegakari.cli.knockout.shared_options import COMMAND, knockout_options, knockout_settings
from tegakari.cli.options import (
    CsvOption,
    DeviceOption,
    GroupRunOption,
    JsonOption,
    StoreOption,
    complete_label,
    default_run,
    is_address,
    open_source,
    parse_feature,
    store_name,
)
from tegakari.cli.output import page_of, print_json, progress
from tegakari.extras import needs_extra
from tegakari.schemas.errors import ConfigError
from tegakari.schemas.knockout import KnockoutResult, KnockoutSettings
from tegakari.schemas.progress import Progress

FIX = f"see `tegakari {COMMAND} --help`"


@knockout_options("details")
def knockout(
    context: typer.Context,
    run: GroupRunOption = None,
    label: Annotated[
        list[str] | None,
        typer.Option(
            "--label", "-l", help="Ablate the features of this label; repeatable.", autocompletion=complete_label
        ),
    ] = None,
    layer: Annotated[list[int] | None, typer.Option(help="Layer of the label's features; repeatable.")] = None,
    feature: Annotated[
        list[str] | None,
        typer.Option("--feature", "-f", metavar="L:F", help="Feature F of layer L, instead of a label's; repeatable."),
    ] = None,
    documents_of: Annotated[str | None, typer.Option(help="Documents of this label; default: of --label.")] = None,
    document: Annotated[list[str] | None, typer.Option(help="Document of the run, by id; repeatable.")] = None,
    text: Annotated[list[str] | None, typer.Option(help="Title, newline, body; repeatable.")] = None,
    *,
    settings: dict[str, Any],
    device: DeviceOption = "auto",
    store: StoreOption = None,
    csv: CsvOption = None,
    json: JsonOption = False,
) -> None:
    """Ablate features in a layer and re-run the classifier.

    A result is stored, and read when the same is requested again.

    Example: [bold]tegakari knockout --run demo-jpn --label 自動車 --layer 2 -k 20[/]

    Example: [bold]tegakari knockout --run demo-jpn --feature 2:17 --feature 3:4 --documents-of 自動車[/]
    """
    if context.invoked_subcommand:
        return
    run = run or default_run()
    settings |= {"documents_of": documents_of, "documents": document or None, "texts": text or None}
    if feature and not label and not layer:
        del settings["k"], settings["pooling"]
        requests = [knockout_settings(settings, features=list(map(_layer_feature, feature)))]
    elif label and layer and not feature:
        requests = [knockout_settings(settings, label=name, layer=number) for name in label for number in layer]
    elif label and not feature:
        fix = "add --layer N; `tegakari specificity` lists the layers"
        raise ConfigError("a label needs a layer", field="--layer", fix=fix)
    else:
        raise ConfigError("give either a label and a layer, or features", field="--label", fix=FIX)
    with progress() as bars:
        results = _results(run, requests, store, device, bars)
    write_knockouts(csv, results)
    if json:
        print_json(page_of(results))
    else:
        print_knockouts(f"Recall without the features, {run}", results)


@needs_extra("study")
def _results(
    run: str, requests: list[KnockoutSettings], store: str | None, device: str, bars: Progress
) -> list[KnockoutResult]:
    if is_address(store_name(store)):
        source = open_source(store)
        return [source.knock_out(run, request) for request in requests]
    from tegakari.analyses.engine.model_loader import model_loader
    from tegakari.analyses.knockout import knock_out_all
    from tegakari.cli.options import open_run, store_directory

    opened = open_run(run, store)
    return knock_out_all(store_directory(store), opened, model_loader(opened, device), requests, progress=bars)


def _layer_feature(text: str) -> dict[str, int]:
    layer, feature = parse_feature(text)
    return {"layer": layer, "feature": feature}
