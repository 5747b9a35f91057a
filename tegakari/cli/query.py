"""`tegakari labels`, `features`, `feature`, `specificity`: the store's questions, as tables."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tegakari.cli.options import JsonOption, PoolingOption, RunOption, StoreOption, store_directory
from tegakari.cli.output import out, print_json, print_table
from tegakari.schemas.api import TopToken
from tegakari.store.reader import Run


def register(app: typer.Typer) -> None:
    for command in (labels, features, feature, specificity):
        app.command(command.__name__)(command)


def _open(run: str, store: Path | None) -> Run:
    from tegakari.store import Store

    return Store(store_directory(store)).run(run)


def labels(run: RunOption, store: StoreOption = None, json: JsonOption = False) -> None:
    """List the labels of a run with their scores and how many features are specific to them.

    Example: [bold]tegakari labels --run demo-jpn[/]
    """
    from tegakari.store import queries

    found = queries.labels(_open(run, store))
    if json:
        print_json(found)
        return
    print_table(
        f"Labels of {run}",
        ("label", "documents", "recall", "precision", "F1", "specific features", "shared features"),
        [
            (row.label, row.documents, row.recall, row.precision, row.f1, row.specific_features, row.shared_features)
            for row in found
        ],
    )


def features(
    run: RunOption,
    label: Annotated[str, typer.Option("--label", "-l", help="Label, as `tegakari labels` shows it.")],
    layer: Annotated[int | None, typer.Option(help="Only this layer.")] = None,
    variety: Annotated[str | None, typer.Option(help="specific, shared, or a number of labels.")] = None,
    min_d: Annotated[float | None, typer.Option(help="Only features with at least this Cohen's d.")] = None,
    pooling: PoolingOption = None,
    limit: Annotated[int, typer.Option(help="Rows.")] = 20,
    cursor: Annotated[str | None, typer.Option(help="`next` of the page before.")] = None,
    store: StoreOption = None,
    json: JsonOption = False,
) -> None:
    """List the features that carry a label, largest Cohen's d first.

    Example: [bold]tegakari features --run demo-jpn --label 自動車 --variety specific[/]
    """
    from tegakari.store import queries

    opened = _open(run, store)
    page = queries.features_of_label(
        opened,
        label,
        layer=layer,
        pooling=queries.check_pooling(opened, pooling),
        min_d=min_d,
        variety=queries.parse_variety(variety) if variety is not None else None,
        limit=limit,
        cursor=cursor,
    )
    if json:
        print_json(page)
        return
    print_table(
        f"Features of {label} in {run}",
        ("layer", "feature", "d", "variety", "mean", "density", "top tokens"),
        [
            (str(row.layer), str(row.feature), row.d, row.variety, row.mean, row.density, row.top_tokens)
            for row in page.items
        ],
    )
    if page.next:
        out.print(f"more: --cursor {page.next}", soft_wrap=True)


def feature(
    run: RunOption,
    layer: Annotated[int, typer.Option(help="Layer, from 0.")],
    feature: Annotated[int, typer.Option("--feature", "-f", help="Feature of the layer's SAE, from 0.")],
    tokens: Annotated[int, typer.Option(help="Strongest positions shown.")] = 20,
    pooling: PoolingOption = None,
    store: StoreOption = None,
    json: JsonOption = False,
) -> None:
    """Show one feature: its statistics, its labels by Cohen's d, and where it is strongest.

    Example: [bold]tegakari feature --run demo-jpn --layer 3 --feature 41[/]
    """
    from tegakari.store import queries

    opened = _open(run, store)
    kept = min(tokens, opened.manifest.top_tokens)
    found = queries.feature(opened, layer, feature, pooling=queries.check_pooling(opened, pooling), tokens=kept)
    if json:
        print_json(found)
        return
    out.print(
        f"layer {found.layer} feature {found.feature} of {run}: active on {found.density:.2%} of positions, "
        f"maximum {found.max_activation:.3f}, label variety {found.variety} (pooling {found.pooling})"
    )
    print_table(
        "Labels",
        ("label", "d", "mean", "sd", "documents"),
        [(row.label, row.d, row.mean, row.sd, row.documents) for row in found.labels[:10]],
    )
    print_table(
        "Strongest positions",
        ("activation", "label", "document", "position", "context"),
        [(row.activation, row.label, row.document, str(row.position), _in_context(row)) for row in found.tokens],
    )


def _in_context(row: TopToken) -> str:
    return f"{row.before}【{row.token}】{row.after}"


def specificity(
    run: RunOption, pooling: PoolingOption = None, store: StoreOption = None, json: JsonOption = False
) -> None:
    """Show, layer by layer, how many features are weak, label-specific and shared.

    Example: [bold]tegakari specificity --run demo-jpn[/]
    """
    from tegakari.store import queries

    opened = _open(run, store)
    found = queries.specificity(opened, pooling=queries.check_pooling(opened, pooling))
    if json:
        print_json(found)
        return
    cutoffs = [high.cutoff for high in found[0].high_d] if found else []
    print_table(
        f"Label specificity of {run}",
        (
            "layer",
            "expl. var.",
            "L0",
            "weak",
            "specific",
            "shared",
            "mean variety",
            *(f"d > {c}" for c in cutoffs),
        ),
        [
            (
                str(row.layer),
                row.explained_variance,
                row.l0,
                row.weak,
                row.specific,
                row.shared,
                row.mean_variety,
                *(high.features for high in row.high_d),
            )
            for row in found
        ],
    )
