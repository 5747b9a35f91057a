"""`tegakari explain`: why a document gets its label."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.cells import cell_len
from rich.text import Text

from tegakari.cli.options import DeviceOption, JsonOption, RunOption, StoreOption, open_source
from tegakari.cli.output import out, print_json, print_table, printable, progress
from tegakari.cli.struct_options import checked_settings, struct_options
from tegakari.schemas.explanation import Explanation, ExplanationSettings

MARKS = " ░▒▓█"
"""Marks below a token, weakest first: they show its strength without colour."""

COLORS = ("", "on grey93", "on light_goldenrod2", "on orange1", "bold on dark_orange")


@struct_options(ExplanationSettings, "document", "text", "label", "candidates", "max_set", "draws", "seed")
def explain(
    run: RunOption,
    *,
    settings: dict[str, Any],
    layer: Annotated[list[int] | None, typer.Option(help="Layers of the features; default: all.")] = None,
    plot: Annotated[Path | None, typer.Option("--plot", help="Write the features' bars, SVG, to this file.")] = None,
    html: Annotated[Path | None, typer.Option("--html", help="Write one page with everything to this file.")] = None,
    device: DeviceOption = "auto",
    store: StoreOption = None,
    json: JsonOption = False,
) -> None:
    """Show why a document gets its label: the tokens and features that its margin over the next label depends on.

    Example: [bold]tegakari explain --run demo-jpn --text 週末に軽トラで買い物に行きました[/]
    """
    request = checked_settings(ExplanationSettings, {**settings, "layers": layer or None}, command="explain")
    with progress() as bars:
        explanation = open_source(store, device=device, progress=bars).explain(run, request)
    if html:
        from tegakari.analyses.explanation.page import page

        html.write_text(page(explanation), encoding="utf-8")
    if plot:
        from tegakari.analyses.explanation.plots import margin_bars
        from tegakari.analyses.svg import save_svg

        save_svg(margin_bars(explanation), plot)
    if json:
        print_json(explanation)
        return
    _print(explanation)
    for path in (html, plot):
        if path:
            out.print(f"wrote {path}", soft_wrap=True)


def _print(explanation: Explanation) -> None:
    from tegakari.analyses.explanation.page import control_summary, summary

    out.print(Text(summary(explanation)))
    out.print()
    for line in marked_lines(explanation, out.width):
        out.print(line)
    print_table(
        "Features, each ablated alone",
        ("layer", "feature", "margin lost", "logit lost", "rises on", "best label", "top tokens"),
        [
            (
                str(feature.layer),
                str(feature.feature),
                feature.margin_lost,
                feature.logit_lost,
                feature.onset_token,
                feature.best_label,
                feature.top_tokens[:3],
            )
            for feature in explanation.features
        ],
    )
    print_table(
        "Features ablated together",
        ("layer", "feature", "margin left", "predicted"),
        [(str(step.layer), str(step.feature), step.margin, step.predicted) for step in explanation.steps],
    )
    out.print(Text(control_summary(explanation)))


def marked_lines(explanation: Explanation, width: int) -> list[Text]:
    """The text in lines of at most `width` cells, each above a line of marks that show the strength of its tokens."""
    from tegakari.analyses.explanation.page import token_spans

    largest = max((token.strength for token in explanation.tokens), default=0) or 1.0
    levels = [0] * len(explanation.text)
    for token, (start, end) in zip(explanation.tokens, token_spans(explanation), strict=True):
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

    for character, level in zip(explanation.text, levels, strict=True):
        if character == "\n":
            end_line()
            continue
        shown = printable(" " if character == "\t" else character)
        cells = cell_len(shown)
        if text.cell_len + cells > width:
            end_line()
        text.append(shown, COLORS[level])
        marks.append(MARKS[level] * cells)
    end_line()
    return lines
