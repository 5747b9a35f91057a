"""`tegakari explain`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import msgspec
import typer

from tegakari.cli.options import (
    DEFAULT_CONFIG,
    ConfigOption,
    JsonOption,
    LabelsOption,
    RunOption,
    StoreDirectoryOption,
    open_run,
    parse_feature,
)
from tegakari.cli.output import print_json, print_table, print_text, progress
from tegakari.extras import needs_extra
from tegakari.schemas.config import ExplainConfig, load_config
from tegakari.schemas.errors import ConfigError
from tegakari.schemas.explain import ExplainPlan, ExplainResult

if TYPE_CHECKING:
    from tegakari.analyses.explanations.explain_features import Feature
    from tegakari.store import Run

FeaturesOption = Annotated[
    list[str] | None,
    typer.Option("--feature", "-f", metavar="L:F", help="Only this feature; repeatable. Default: those of labels."),
]
LayersOption = Annotated[
    list[int] | None, typer.Option("--layer", help="Only features of labels in this layer; repeatable. Default: all.")
]
PerLabelOption = Annotated[
    int, typer.Option("--per-label", min=1, max=1000, help="Features per label: the largest d that it alone has.")
]
LONGEST_LIST = 20
"""Features without an explanation that are shown."""


@needs_extra("study")
def explain(
    run: RunOption,
    features: FeaturesOption = None,
    labels: LabelsOption = None,
    layers: LayersOption = None,
    per_label: PerLabelOption = 5,
    language: Annotated[Literal["en", "ja"] | None, typer.Option(help="Language; default: `explain.language`.")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Ask nothing; show the number of requests and tokens, and a prompt.")
    ] = False,
    config: ConfigOption = DEFAULT_CONFIG,
    store: StoreDirectoryOption = None,
    json: JsonOption = False,
) -> None:
    """Ask a language model what features are active on, and store its explanations.

    The section [explain] of the configuration names the server. The same command resumes a stopped one.

    Example: [bold]tegakari explain --run demo-jpn --label 旅行 --per-label 3 --dry-run[/]
    """
    from tegakari.analyses.explanations.explain_features import explain_features, plan_explanations

    settings = explain_settings(config, language)
    opened = open_run(run, store)
    selected = selected_features(opened, features, labels, layers, per_label)
    if dry_run:
        plan = plan_explanations(opened, selected, settings)
        print_json(plan) if json else _print_plan(plan)
        return
    with progress() as bars:
        result = explain_features(opened, selected, settings, progress=bars)
    print_json(result) if json else _print_result(result)


def explain_settings(config: Path, language: Literal["en", "ja"] | None = None) -> ExplainConfig:
    """The section `[explain]` of a configuration file, the defaults without a file; and another language."""
    settings = load_config(config).explain if config.is_file() else ExplainConfig()
    return settings if language is None else msgspec.structs.replace(settings, language=language)


def selected_features(
    run: Run, features: list[str] | None, labels: list[str] | None, layers: list[int] | None, per_label: int
) -> list[Feature]:
    """Features of the options of a command: those that are named, or those that carry labels.

    Raises:
        ConfigError: both kinds of options are given.
        NotFoundError: no such layer, feature or label.
    """
    from tegakari.analyses.explanations.explain_features import Feature, label_features

    if not features:
        return label_features(run, labels, layers=layers, per_label=per_label)
    if labels or layers:
        raise ConfigError(
            "features are given as well", field="--label" if labels else "--layer", fix="give --feature, or the others"
        )
    return sorted({Feature(*parse_feature(feature)) for feature in features})


def _print_plan(plan: ExplainPlan) -> None:
    print_table(
        f"Explanations in {plan.run} by {plan.model or 'the model of the server'}",
        ("measure", "value"),
        [
            ("server", plan.base_url),
            ("prompt", plan.prompt_version),
            ("features", plan.features),
            ("explained before", plan.stored_before),
            ("never active", plan.inactive),
            ("requests", plan.requests),
            ("prompt tokens, about", plan.prompt_tokens),
            ("answer tokens, at most", plan.answer_tokens),
        ],
    )
    if plan.example:
        print_text("The first prompt:\n")
        print_text(plan.example)


def _print_result(result: ExplainResult) -> None:
    print_table(
        f"Explanations in {result.run} by {result.model}",
        ("measure", "value"),
        [
            ("features", result.features),
            ("new explanations", result.explained),
            ("explained before", result.stored_before),
            ("without one", len(result.unexplained)),
            ("requests", result.usage.requests),
            ("answers from the store", result.usage.cached),
            ("tokens", result.usage.tokens),
        ],
    )
    if result.unexplained:
        rows = [(f"{row.layer}:{row.feature}", row.reason) for row in result.unexplained]
        print_table("Without an explanation", ("feature", "reason"), rows[:LONGEST_LIST])
        if len(rows) > LONGEST_LIST:
            print_text(f"{len(rows) - LONGEST_LIST:,} more: --json shows all")
    if result.stopped is not None:
        print_text(f"stopped: {result.stopped}; the same command goes on")
