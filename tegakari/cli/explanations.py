"""`tegakari explanations`: lists, scores, and what people write, vote on, delete and import."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from tegakari.cli.explain import FeaturesOption, LayersOption, PerLabelOption, explain_settings, selected_features
from tegakari.cli.options import (
    DEFAULT_CONFIG,
    AllOption,
    AuthorOption,
    ConfigOption,
    CsvOption,
    CursorOption,
    FeatureOption,
    JsonOption,
    LabelsOption,
    RowsOption,
    RunOption,
    StoreDirectoryOption,
    StoreOption,
    feature_filter,
    open_run,
    open_source,
    parse_feature,
)
from tegakari.cli.output import print_json, print_list, print_table, print_text, progress
from tegakari.cli.row_limit import first_rows, print_rest
from tegakari.extras import needs_extra
from tegakari.schemas.explanations import Explanation, ExplanationFilters, Method, NewExplanation, VoteChange

app = typer.Typer(help="Explanations of features: list, score, write, vote, delete, import.", no_args_is_help=True)

IdArgument = Annotated[str, typer.Argument(metavar="ID", help="Id of the explanation, as the list shows it.")]
MethodOption = Annotated[Method | None, typer.Option(help="Only explanations of this method: terms, model or person.")]


@app.command("list")
def list_(
    run: RunOption,
    words: Annotated[list[str] | None, typer.Argument(help="Only explanations with all these words.")] = None,
    feature: Annotated[
        str | None, typer.Option("--feature", "-f", metavar="L:F", help="Only explanations of this feature, as 2:17.")
    ] = None,
    layer: Annotated[int | None, typer.Option(help="Only explanations of features of this layer.")] = None,
    method: MethodOption = None,
    author: Annotated[
        str | None, typer.Option(help="Only explanations of this author: tegakari, a language model, or a person.")
    ] = None,
    language: Annotated[str | None, typer.Option(help="Only explanations in this language, as ja or en.")] = None,
    min_score: Annotated[
        float | None, typer.Option(help="Only explanations whose detection has at least this balanced accuracy.")
    ] = None,
    k: RowsOption = 20,
    every: AllOption = False,
    cursor: CursorOption = None,
    store: StoreOption = None,
    csv: CsvOption = None,
    json: JsonOption = False,
) -> None:
    """List the explanations of features of a run, by layer and feature.

    Example: [bold]tegakari explanations list --run demo-jpn --language ja 温泉[/]
    """
    layer, number = feature_filter(feature, layer)
    filters = ExplanationFilters(
        layer=layer,
        feature=number,
        method=method,
        author=author,
        language=language,
        min_score=min_score,
        q=" ".join(words or ()) or None,
    )
    source = open_source(store)
    page = first_rows(lambda limit: source.explanations(run, limit=limit, **filters), k, every, cursor)
    print_list(
        page.items,
        {
            "id": "id",
            "layer": "layer",
            "feature": "feature",
            "text": "text",
            "score": "score",
            "votes": lambda row: sum(vote.value for vote in row.votes),
            "author": "author",
            "language": "language",
        },
        title=f"Explanations in {run}",
        json=json,
        csv=csv,
        document=page,
        drop=("language", "votes", "author", "score"),
    )
    if not json:
        print_rest(page, k)


@app.command()
@needs_extra("study")
def score(
    run: RunOption,
    judge: Annotated[
        Literal["terms", "model"],
        typer.Option(help="terms: does a context contain a term; model: the language model of [explain]."),
    ] = "terms",
    features: FeaturesOption = None,
    labels: LabelsOption = None,
    layers: LayersOption = None,
    per_label: PerLabelOption = 5,
    method: MethodOption = None,
    config: ConfigOption = DEFAULT_CONFIG,
    store: StoreDirectoryOption = None,
    json: JsonOption = False,
) -> None:
    """Score explanations by whether a judge tells contexts of the feature from others by them, and store the scores.

    Example: [bold]tegakari explanations score --run demo-jpn --label 旅行 --per-label 3[/]
    """
    from tegakari.analyses.explanations.score_explanations import score_by_model, score_by_terms
    from tegakari.store.explanations import feature_explanations

    opened = open_run(run, store)
    selected = selected_features(opened, features, labels, layers, per_label)
    explanations = [
        row
        for place in selected
        for row in feature_explanations(opened, *place)
        if method in (None, row.method) and (judge == "model" or row.method == "terms")
    ]
    with progress() as bars:
        if judge == "terms":
            result = score_by_terms(opened, explanations, progress=bars)
        else:
            result = score_by_model(opened, explanations, explain_settings(config), progress=bars)
    if json:
        print_json(result)
        return
    rows = [("explanations", result.explanations), ("with new scores", result.scored)]
    if judge == "model":
        rows += [("requests", result.usage.requests), ("answers from the store", result.usage.cached)]
        rows += [("tokens", result.usage.tokens)]
    print_table(f"Scores in {run} by {result.judge}", ("measure", "value"), rows)
    if result.stopped is not None:
        print_text(f"stopped: {result.stopped}; the same command goes on")


@app.command()
def write(
    run: RunOption,
    feature: FeatureOption,
    text: Annotated[str, typer.Argument(help="One sentence that says what the feature is active on.")],
    language: Annotated[str | None, typer.Option(help="Language, as ja or en; default: by the letters.")] = None,
    author: AuthorOption = None,
    store: StoreOption = None,
    json: JsonOption = False,
) -> None:
    """Write your explanation of a feature; the same text twice is one explanation.

    Example: [bold]tegakari explanations write --run demo-jpn --feature 2:17 "names of hot springs"[/]
    """
    new = NewExplanation(text=text, language=language, author=author)
    explanation = open_source(store).write_explanation(run, *parse_feature(feature), new)
    _report(f"written as {explanation.author}", explanation, json)


@app.command()
def vote(
    explanation: IdArgument,
    value: Annotated[Literal["up", "down", "none"], typer.Argument(help="up: right; down: wrong; none: no vote.")],
    run: RunOption,
    feature: FeatureOption,
    author: AuthorOption = None,
    store: StoreOption = None,
    json: JsonOption = False,
) -> None:
    """Vote on an explanation; the vote replaces your vote before.

    Example: [bold]tegakari explanations vote 0123456789abcdef up --run demo-jpn --feature 2:17[/]
    """
    change = VoteChange(value={"up": 1, "down": -1, "none": 0}[value], author=author)
    voted = open_source(store).vote(run, *parse_feature(feature), explanation, change)
    votes = [vote.value for vote in voted.votes]
    _report(f"{votes.count(1)} for the explanation, {votes.count(-1)} against it", voted, json)


@app.command()
def delete(
    explanation: IdArgument,
    run: RunOption,
    feature: FeatureOption,
    author: AuthorOption = None,
    store: StoreOption = None,
    json: JsonOption = False,
) -> None:
    """Delete your explanation; --author names another one, such as a language model.

    Example: [bold]tegakari explanations delete 0123456789abcdef --run demo-jpn --feature 2:17[/]
    """
    deleted = open_source(store).delete_explanation(run, *parse_feature(feature), explanation, author=author)
    _report(f"deleted the explanation of {deleted.author}: {deleted.text}", deleted, json)


@app.command("import")
@needs_extra("store")
def import_(
    files: Annotated[list[Path], typer.Argument(help="Files explanations/batch-N.jsonl.gz of Neuronpedia's layout.")],
    run: RunOption,
    store: StoreDirectoryOption = None,
    json: JsonOption = False,
) -> None:
    """Import explanations in the layout of Neuronpedia's exports; the run must have the SAEs that they are about.

    Example: [bold]tegakari explanations import explanations/batch-0.jsonl.gz --run demo-jpn[/]
    """
    from tegakari.store.export.neuronpedia_explanations import import_explanations

    result = import_explanations(open_run(run, store), files)
    if json:
        print_json(result)
        return
    rows = [("added", result.added), ("stored before", result.stored_before)]
    rows += [(f"skipped: {reason}", count) for reason, count in result.skipped.items()]
    print_table(f"{result.rows:,} explanations for {run}", ("rows", "count"), rows)


def _report(sentence: str, explanation: Explanation, json: bool) -> None:
    if json:
        print_json(explanation)
    else:
        print_text(sentence)
