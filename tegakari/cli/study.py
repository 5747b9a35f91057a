"""`tegakari study`: every table and figure of the study as one report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, get_args

import typer

from tegakari.analyses.formatting import decimal, interval, knockout_mean_sentence
from tegakari.cli.layer_selection import LayerSelectionOption, read_layer_selection
from tegakari.cli.options import (
    ConceptsOption,
    DeviceOption,
    JsonOption,
    LabelsOption,
    OwnScaleOption,
    PoolingOption,
    RunsOption,
    StoreDirectoryOption,
    open_runs,
    store_directory,
)
from tegakari.cli.output import print_json, print_table, print_text, print_written, progress
from tegakari.cli.output_paths import check_output_file, output_directory, output_file
from tegakari.cli.struct_options import checked_settings
from tegakari.extras import needs_extra
from tegakari.schemas.errors import ConfigError
from tegakari.schemas.study import StudyPart, StudyResult, StudySettings


@needs_extra("study")
def study(
    runs: RunsOption,
    against: Annotated[
        list[str] | None,
        typer.Option(
            help="Replicate of another model; repeatable. Those of --run are then replicates of one model as well.",
        ),
    ] = None,
    labels: LabelsOption = None,
    layer: LayerSelectionOption = None,
    holdout: Annotated[
        bool,
        typer.Option(help="Choose layer and features of knockouts on one half of the documents, measure on the other."),
    ] = True,
    k: Annotated[int, typer.Option("-k", help="Features with the largest d.")] = 20,
    draws: Annotated[int, typer.Option(help="Sets of other features in each control.")] = 5,
    pairs: Annotated[int, typer.Option(help="Pairs of documents for circuits.")] = 1000,
    min_cosine: Annotated[float, typer.Option(help="Least cosine of a pair.")] = 0.8,
    seed: Annotated[int, typer.Option(help="Of all draws.")] = 0,
    pooling: PoolingOption = None,
    concepts: ConceptsOption = None,
    skip: Annotated[
        list[str] | None, typer.Option(help=f"Part to skip; repeatable: {', '.join(get_args(StudyPart))}.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="File of the report.", callback=output_file)
    ] = None,
    format_: Annotated[str, typer.Option("--format", help="html, md or json.")] = "html",
    tables: Annotated[
        Path | None,
        typer.Option("--tables", help="Directory to write the tables to, as CSV.", callback=output_directory),
    ] = None,
    explorer: Annotated[
        str | None, typer.Option(help="Address of the service whose pages the report links to; default: no links.")
    ] = None,
    own_scale: OwnScaleOption = False,
    device: DeviceOption = "auto",
    store: StoreDirectoryOption = None,
    json: JsonOption = False,
) -> None:
    """Make every table and figure of the study, for one run or two side by side, as a report.

    Stored results are read; the same command resumes a killed study. With --against, runs are replicates: intervals of
    differences cover documents and training.

    Example: [bold]tegakari study --run demo-jpn --run demo-base -o report.html[/]
    """
    from tegakari.analyses.engine.model_loader import model_loader
    from tegakari.analyses.study import study as make_study
    from tegakari.analyses.study.csv_tables import write_csv_tables
    from tegakari.analyses.study.render import html, markdown, report_options
    from tegakari.analyses.variants import read_concepts

    if format_ not in ("html", "md", "json"):
        raise ConfigError(f"{format_!r} is no format", field="--format", fix="use html, md or json")
    report = report_options(explorer, own_scale=own_scale)
    layer_selection = read_layer_selection(layer)
    directory, first = store_directory(store), open_runs(runs, store)
    second = open_runs(against, store) if against else []
    opened = [*first, *second]
    path = output or Path(f"study-{'-'.join(run.name for run in opened)}.{format_}")
    if not json:
        check_output_file(path)
    concept_list = read_concepts(concepts)
    circuit = {"pairs": pairs, "min_cosine": min_cosine, "seed": seed}
    options = {"labels": labels or None, "layer": layer_selection, "holdout": holdout, "k": k, "draws": draws}
    options |= {"circuit": circuit, "seed": seed, "pooling": pooling, "skip": skip or []}
    settings = checked_settings(StudySettings, options, command="study")
    with progress() as bars:
        result = make_study(
            directory,
            first,
            lambda run: model_loader(run, device),
            settings,
            against=second,
            concepts=concept_list,
            progress=bars,
        )
    if tables:
        write_csv_tables(directory, opened, result, tables)
    if json:
        print_json(result)
        return
    match format_:
        case "html":
            path.write_text(html(result, opened, report), encoding="utf-8")
        case "md":
            path.write_text(markdown(result, opened, report), encoding="utf-8")
        case _:
            import msgspec

            path.write_bytes(msgspec.json.format(msgspec.json.encode(result), indent=1))
    _print(result)
    print_written(path)


def _print(result: StudyResult) -> None:
    print_table(
        "Study",
        ("run", "macro-F1 (95 %)", "mean variety (95 %)", "active features", "components"),
        [
            (
                run.run,
                interval(run.classification.macro_f1),
                interval(run.specificity.mean_variety),
                decimal(run.sparsity.active.value, 1),
                str(sum(component.in_circuit for component in run.circuit.components)) if run.circuit else "-",
            )
            for run in result.runs
        ],
    )
    for run in result.runs:
        if run.knockouts:
            print_text(f"{run.run}, knockouts: {knockout_mean_sentence(run.knockout_mean)}")
    for sentence in result.limits:
        print_text(f"- {sentence}")
    if result.differences:
        print_table(
            "Differences",
            ("figure", *(" and ".join(group) for group in result.groups), "difference (95 %)"),
            [(row.figure, row.a, row.b, interval(row.difference)) for row in result.differences],
        )
