"""`tegakari encode`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import typer

from tegakari.analyses.visible_text import visible_token
from tegakari.cli.options import CsvOption, DeviceOption, JsonOption, RunOption, StoreOption, TextsOption, open_source
from tegakari.cli.output import page_of, print_json, print_table, progress, write_csv
from tegakari.cli.visible import shorten, visible
from tegakari.extras import extras_named
from tegakari.schemas.inference import MAX_TOP, Active, EncodedText


def encode(
    run: RunOption,
    text: TextsOption,
    layer: Annotated[list[int] | None, typer.Option(help="Only this layer; repeatable. Default: all.")] = None,
    pooling: Annotated[
        Literal["head", "max", "mean", "none"] | None,
        typer.Option(help="Over the positions of a text; none: position by position. Default: the run's."),
    ] = None,
    k: Annotated[int, typer.Option("-k", min=1, max=MAX_TOP, help="Strongest features per layer.")] = 10,
    device: DeviceOption = "auto",
    store: StoreOption = None,
    csv: CsvOption = None,
    json: JsonOption = False,
) -> None:
    """Show the features that are active in texts, by the classifier and SAEs of a run.

    Example: [bold]tegakari encode --run demo-jpn --text 週末に軽トラで買い物に行きました --layer 2[/]
    """
    options: dict[str, Any] = {"layers": layer or None, "pooling": pooling, "top": k}
    with progress() as bars, extras_named():
        results = open_source(store, device=device, progress=bars).encode(run, text, **options)
    if csv:
        write_csv(csv, results)
    if json:
        print_json(page_of(results))
        return
    for words, result in zip(text, results, strict=True):
        _print(words, result)


def _print(words: str, result: EncodedText) -> None:
    cut = ", cut at the classifier's max_length" if result.truncated else ""
    title = f"{shorten(visible(words), 40)}: {result.predicted}{cut}, pooling {result.pooling}"
    if result.pooling != "none":
        rows = [(str(active.layer), str(active.feature), active.activation) for active in result.features]
        print_table(title, ("layer", "feature", "activation"), rows)
        return
    print_table(
        title,
        ("position", "token", "features (layer:feature activation)"),
        [
            (str(token.position), visible_token(token.token), ", ".join(map(_active, token.features)) or "-")
            for token in result.tokens
            if not token.special
        ],
    )


def _active(active: Active) -> str:
    return f"{active.layer}:{active.feature} {active.activation:.3f}"
