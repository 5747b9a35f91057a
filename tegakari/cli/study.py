"""`tegakari study`, and its tables that need no model: classification, sparsity, cues."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tegakari.cli.knockout import converted, loader
from tegakari.cli.options import DeviceOption, JsonOption, StoreOption, store_directory
from tegakari.cli.output import out, print_json, print_table, progress, reporter
from tegakari.schemas.analysis import Interval
from tegakari.schemas.circuit import CircuitSettings
from tegakari.schemas.errors import ConfigError
from tegakari.schemas.study import LabelCues, StudyResult, StudySettings

if TYPE_CHECKING:
    from tegakari.store import Run

RunsOption = Annotated[str, typer.Option("--runs", help="Runs, separated by commas.")]


def register(app: typer.Typer) -> None:
    for command in (study, classification, sparsity, cues):
        app.command(command.__name__)(command)


def _open(runs: str, store: Path | None) -> list[Run]:
    from tegakari.store import Store

    opened = Store(store_directory(store))
    return [opened.run(name) for name in runs.split(",")]


def study(
    runs: Annotated[str, typer.Option("--runs", help="One run, or two separated by a comma.")],
    labels: Annotated[str | None, typer.Option(help="Labels, separated by commas; default: all shared.")] = None,
    layer: Annotated[int | None, typer.Option(help="Of knockouts and cues; default: that of largest effect.")] = None,
    k: Annotated[int, typer.Option("-k", help="Features with the largest d.")] = 20,
    draws: Annotated[int, typer.Option(help="Sets of other features in each control.")] = 5,
    pairs: Annotated[int, typer.Option(help="Pairs of documents for circuits.")] = 1000,
    min_cosine: Annotated[float, typer.Option(help="Least cosine of a pair.")] = 0.8,
    seed: Annotated[int, typer.Option(help="Of all draws.")] = 0,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="File of the report.")] = None,
    format_: Annotated[str, typer.Option("--format", help="html, md or json.")] = "html",
    tables: Annotated[Path | None, typer.Option("--tables", help="Directory to write the tables to, as CSV.")] = None,
    service: Annotated[str | None, typer.Option(help="Address that links in the report lead to.")] = None,
    device: DeviceOption = "auto",
    store: StoreOption = None,
    json: JsonOption = False,
) -> None:
    """Make every table and figure of the study, for one run or two side by side, as a report.

    What was computed before is read; a killed study goes on where it was.

    Example: [bold]tegakari study --runs demo-jpn,demo-base -o report.html[/]
    """
    from tegakari.analyses.study import study as make_study
    from tegakari.analyses.study.render import DEFAULT_SERVICE, html, markdown
    from tegakari.analyses.study.tables import write_tables

    if format_ not in ("html", "md", "json"):
        raise ConfigError(f"{format_!r} is no format", field="--format", fix="use html, md or json")
    opened = _open(runs, store)
    asked = converted(
        StudySettings,
        labels=labels.split(",") if labels is not None else None,
        layer=layer,
        k=k,
        draws=draws,
        circuit=converted(CircuitSettings, pairs=pairs, min_cosine=min_cosine, seed=seed),
        seed=seed,
    )
    with progress() as bars:
        told_of: dict[str, Callable[[int, int], None]] = {}

        def told(what: str, done: int, total: int) -> None:
            if what not in told_of:
                told_of[what] = reporter(bars, what)
            told_of[what](done, total)

        result = make_study(store_directory(store), opened, lambda run: loader(run, device), asked, report=told)
    if tables:
        write_tables(store_directory(store), opened, asked, tables)
    if json:
        print_json(result)
        return
    path = output or Path(f"study-{'-'.join(run.name for run in opened)}.{format_}")
    match format_:
        case "html":
            path.write_text(html(result, opened, service or DEFAULT_SERVICE), encoding="utf-8")
        case "md":
            path.write_text(markdown(result, opened), encoding="utf-8")
        case _:
            import msgspec

            path.write_bytes(msgspec.json.format(msgspec.json.encode(result), indent=1))
    _show(result)
    out.print(f"wrote {path}", soft_wrap=True)


def _show(result: StudyResult) -> None:
    print_table(
        "Study",
        ("run", "macro-F1 (95 %)", "mean variety (95 %)", "active features", "components", "points lost, mean"),
        [
            (
                run.run,
                said(run.classification.macro_f1),
                said(run.specificity.mean_variety),
                f"{run.sparsity.active.value:.1f}",
                str(sum(each.in_circuit for each in run.circuit.components)) if run.circuit else "-",
                f"{sum(row.delta for row in run.knockouts) / len(run.knockouts):+.1f}",
            )
            for run in result.runs
        ],
    )
    if result.differences:
        print_table(
            "Differences",
            ("figure", *(run.run for run in result.runs), "difference (95 %)"),
            [(row.figure, row.a, row.b, said(row.difference)) for row in result.differences],
        )


def classification(runs: RunsOption, store: StoreOption = None, json: JsonOption = False) -> None:
    """Show macro-F1 and accuracy of runs with intervals, beside the baseline.

    Example: [bold]tegakari classification --runs demo-jpn,demo-base[/]
    """
    from tegakari.analyses.classification import classification as score

    found = [score(run) for run in _open(runs, store)]
    if json:
        print_json(found)
        return
    print_table(
        "Classification",
        ("run", "documents", "macro-F1 (95 %)", "accuracy (95 %)", "baseline macro-F1"),
        [(row.run, row.documents, said(row.macro_f1), said(row.accuracy), row.baseline_macro_f1) for row in found],
    )


def sparsity(runs: RunsOption, store: StoreOption = None, json: JsonOption = False) -> None:
    """Show how many features are active, and how much the strongest 20 carry.

    Example: [bold]tegakari sparsity --runs demo-jpn,demo-base[/]
    """
    from tegakari.analyses.sparsity import sparsity as measure

    found = [measure(run) for run in _open(runs, store)]
    if json:
        print_json(found)
        return
    for result in found:
        print_table(
            f"Sparsity of {result.run}, pooling {result.pooling}, {result.documents} documents",
            ("layer", "active (95 %)", "a position", "top-20 ratio (95 %)"),
            [(str(row.layer), said(row.active), row.per_position, said(row.top20_ratio)) for row in result.layers]
            + [("mean", said(result.active), result.per_position, said(result.top20_ratio))],
        )


def cues(
    runs: RunsOption,
    labels: Annotated[str | None, typer.Option(help="Labels, separated by commas; default: all of a run.")] = None,
    layer: Annotated[int | None, typer.Option(help="Layer of the features; default: all layers.")] = None,
    k: Annotated[int, typer.Option("-k", help="Features with the largest d for a label.")] = 20,
    store: StoreOption = None,
    json: JsonOption = False,
) -> None:
    """Show which tokens the features of labels fire on, and how various they are.

    Example: [bold]tegakari cues --runs demo-jpn,demo-base --labels 旅行,園芸 --layer 2[/]
    """
    from tegakari.analyses.cues import label_cues

    found: list[LabelCues] = []
    for run in _open(runs, store):
        chosen = labels.split(",") if labels is not None else run.labels
        found += [label_cues(run, label, layer=layer, k=k) for label in chosen]
    if json:
        print_json(found)
        return
    print_table(
        "Cues",
        ("run", "label", "top token share (95 %)", "unique tokens (95 %)", "strongest feature fires on"),
        [
            (
                row.run,
                row.label,
                said(row.top_token_share),
                said(row.unique_tokens),
                " ".join(token.token for token in row.features[0].tokens[:5]),
            )
            for row in found
        ],
    )


def said(figure: Interval | None) -> str:
    """A figure with its interval."""
    return "-" if figure is None else f"{figure.value:.3f} ({figure.low:.3f} to {figure.high:.3f})"
