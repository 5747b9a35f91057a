"""`tegakari attribution`: why a document gets its label."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.cells import cell_len
from rich.text import Text

from tegakari.analyses.attribution.page import control_summary, page, summary, token_spans
from tegakari.analyses.visible_text import visible_token
from tegakari.cli.options import (
    CsvOption,
    DeviceOption,
    JsonOption,
    PlotOption,
    RunOption,
    StoreOption,
    open_source,
)
from tegakari.cli.output import (
    out,
    print_json,
    print_table,
    print_text,
    print_written,
    printable,
    progress,
    width,
    write_csv,
)
from tegakari.cli.struct_options import checked_settings, struct_options
from tegakari.extras import extras_named
from tegakari.schemas.attribution import Attribution, AttributionSettings

MARKS = " ░▒▓█"
"""Marks below a token, weakest first: they show its strength without colour."""

COLORS = ("", "on grey93", "on light_goldenrod2", "on orange1", "bold on dark_orange")


@struct_options(
    AttributionSettings,
    *("document", "text", "label", "candidates", "max_set", "draws", "seed"),
    flags={"document": ("--document", "-d"), "text": ("--text", "-t"), "label": ("--label", "-l")},
)
def attribution(
    run: RunOption,
    *,
    settings: dict[str, Any],
    layer: Annotated[list[int] | None, typer.Option(help="Layer of the features; repeatable. Default: all.")] = None,
    html: Annotated[Path | None, typer.Option("--html", help="Write one page with everything to this file.")] = None,
    plot: PlotOption = None,
    device: DeviceOption = "auto",
    store: StoreOption = None,
    csv: CsvOption = None,
    json: JsonOption = False,
) -> None:
    """Show why a document gets its label: the tokens and features that its margin over the next label depends on.

    Blocks below a token show how much margin depends on it. --csv writes the features, --plot draws what each costs.

    Example: [bold]tegakari attribution --run demo-jpn --text 週末に軽トラで買い物に行きました[/]
    """
    request = checked_settings(AttributionSettings, {**settings, "layers": layer or None}, command="attribution")
    with progress() as bars, extras_named():
        result = open_source(store, device=device, progress=bars).attribution(run, request)
    if html:
        html.write_text(page(result), encoding="utf-8")
        print_written(html)
    if plot:
        with extras_named("study"):
            from tegakari.analyses.attribution.plots import margin_bars
            from tegakari.analyses.svg import save_svg

            save_svg(margin_bars(result), plot)
        print_written(plot)
    if csv:
        write_csv(csv, result.features)
    if json:
        print_json(result)
        return
    _print(result)


def _print(attribution: Attribution) -> None:
    print_text(summary(attribution))
    for line in marked_lines(attribution, width()):
        out.print(line, soft_wrap=True)
    print_table(
        "Features, each ablated alone",
        ("layer", "feature", "margin lost", "rises on", "best label", "logit lost", "top tokens"),
        [
            (
                str(feature.layer),
                str(feature.feature),
                feature.margin_lost,
                visible_token(feature.onset_token),
                feature.best_label,
                feature.logit_lost,
                feature.top_tokens,
            )
            for feature in attribution.features
        ],
    )
    print_table(
        "Features ablated together",
        ("layer", "feature", "margin left", "predicted"),
        [(str(step.layer), str(step.feature), step.margin, step.predicted) for step in attribution.steps],
    )
    print_text(control_summary(attribution))


def marked_lines(attribution: Attribution, cells: int | None) -> list[Text]:
    """The text in lines of at most so many cells, each above a line of marks that show the strength of its tokens."""
    largest = max((token.strength for token in attribution.tokens), default=0) or 1.0
    levels = [0] * len(attribution.text)
    for token, (start, end) in zip(attribution.tokens, token_spans(attribution), strict=True):
        level = -int(-token.strength / largest * (len(MARKS) - 1) // 1)
        levels[start:end] = [level] * (end - start)
    lines: list[Text] = []
    text, marks = Text(), Text()

    def end_line() -> None:
        nonlocal text, marks
        if text.plain:
            lines.append(text)
            marks.rstrip()
            lines.append(marks)
        text, marks = Text(no_wrap=True), Text(no_wrap=True)

    for character, level in zip(attribution.text, levels, strict=True):
        if character == "\n":
            end_line()
            continue
        shown = printable(" " if character == "\t" else character)
        taken = cell_len(shown)
        if cells is not None and text.cell_len + taken > cells:
            end_line()
        text.append(shown, COLORS[level])
        marks.append(MARKS[level] * taken)
    end_line()
    return lines
