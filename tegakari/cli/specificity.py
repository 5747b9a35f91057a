"""`tegakari specificity`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Annotated, Any

import typer

from tegakari.analyses.formatting import MISSING, interval
from tegakari.cli.options import (
    CsvOption,
    JsonOption,
    PoolingOption,
    RunOption,
    StoreOption,
    is_address,
    open_source,
    store_name,
)
from tegakari.cli.output import print_list, print_text, progress
from tegakari.cli.struct_options import checked_settings, struct_options
from tegakari.extras import extras_named
from tegakari.schemas.analysis import Interval
from tegakari.schemas.api import LayerSpecificity
from tegakari.schemas.specificity import SpecificityResult, SpecificitySettings


@struct_options(SpecificitySettings, "permutations", "min_active", "fdr", "seed")
def specificity(
    run: RunOption,
    *,
    settings: dict[str, Any],
    pooling: PoolingOption = None,
    chance: Annotated[bool, typer.Option("--chance/--no-chance", help="Compare with permuted labels.")] = True,
    store: StoreOption = None,
    csv: CsvOption = None,
    json: JsonOption = False,
) -> None:
    """Show, layer by layer, how many features are weak, label-specific and shared, beside what permuted labels give.

    The comparison with permuted labels is for the run's pooling. It is computed from a directory and stored; a service
    shows the stored one with the default settings.

    Example: [bold]tegakari specificity --run demo-jpn[/]
    """
    request = checked_settings(SpecificitySettings, settings, command="specificity")
    result = (
        _computed(run, store, request) if chance and pooling is None and not is_address(store_name(store)) else None
    )
    rows = result.layers if result else list(open_source(store).specificity(run, pooling=pooling))
    columns: dict[str, str | Callable[[LayerSpecificity], object]] = {
        "layer": lambda row: str(row.layer),
        "EV": lambda row: MISSING if row.explained_variance is None else f"{row.explained_variance:.2f}",
        "L0": lambda row: f"{row.l0:.1f}",
        "weak": "weak",
        "specific (by chance)": _specific,
        "significant": lambda row: row.chance.significant_specific if row.chance else None,
        "shared": "shared",
        "mean variety": lambda row: f"{row.mean_variety:.3f}",
    }
    for place, high in enumerate(rows[0].high_d if rows else []):
        columns[f"d > {high.cutoff}"] = partial(_high_d, place)
    print_list(
        rows,
        columns,
        title=f"Label specificity of {run}",
        json=json,
        csv=csv,
        drop=("L0", "EV", "significant"),
    )
    if result and not json:
        for line in _overall(result):
            print_text(line)


def _computed(run: str, store: str | None, settings: SpecificitySettings) -> SpecificityResult:
    from tegakari.analyses.specificity import specificity as compute
    from tegakari.cli.options import open_run

    opened = open_run(run, store)
    with extras_named("index"), progress() as bars:
        return compute(opened, settings, progress=bars)


def _specific(row: LayerSpecificity) -> str:
    return f"{row.specific} ({row.chance.specific.value:.1f})" if row.chance else str(row.specific)


def _high_d(place: int, row: LayerSpecificity) -> int:
    return row.high_d[place].features


def _overall(result: SpecificityResult) -> Sequence[str]:
    """Lines about all layers."""
    chance, settings = result.chance, result.settings

    def figure(name: str, count: float, null: Interval, digits: int = 0) -> str:
        return f"{name} {count:.{digits}f}, by chance {interval(null, digits)}"

    return [
        f"all layers, {settings.permutations} permutations of the labels (mean, 95 %): "
        f"{figure('specific', result.specific, chance.specific)}; {figure('shared', result.shared, chance.shared)}; "
        f"{figure('mean variety', result.mean_variety.value, chance.mean_variety, 3)}",
        f"mean variety {interval(result.mean_variety)}, with half of the documents {result.mean_variety_of_half:.3f}; "
        f"by the unweighted d {result.unweighted.mean_variety:.3f}, {result.unweighted.specific} specific, "
        f"{result.unweighted.shared} shared",
        f"active in {settings.min_active} or more documents of their label: "
        f"{figure('specific', chance.supported, chance.supported_by_chance)}",
        f"beyond chance, at most {settings.fdr:.0%} of them false: {chance.significant} features, "
        f"{chance.significant_specific} of them specific",
        *(f"warning: {warning}" for warning in result.warnings),
    ]
