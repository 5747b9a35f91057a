"""`tegakari knockout table|curve|single|smallest`: many knockouts for one table or picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from tegakari.cli.knockout import (
    DrawsOption,
    KOption,
    LabelOption,
    LayerOption,
    ModeOption,
    PositionsOption,
    SeedOption,
    app,
    converted,
    show,
    show_beside,
)
from tegakari.cli.options import DeviceOption, JsonOption, PoolingOption, RunOption, StoreOption, store_directory
from tegakari.cli.output import out, print_json, print_table, progress
from tegakari.schemas.errors import ConfigError
from tegakari.schemas.knockout import KnockoutResult, KnockoutSettings, SmallestSetSettings

CsvOption = Annotated[Path | None, typer.Option("--csv", help="Write the table to this file.")]
PlotOption = Annotated[Path | None, typer.Option("--plot", help="Write a picture, SVG, to this file.")]
FewDrawsOption = Annotated[int, typer.Option(help="Sets of other features in each control.")]


def table(
    runs: Annotated[str, typer.Option(help="Runs, separated by commas, side by side.")],
    labels: Annotated[str | None, typer.Option(help="Labels, separated by commas; default: all of the runs.")] = None,
    layer: Annotated[int | None, typer.Option(help="Layer, from 0.")] = None,
    layer_of_largest_effect: Annotated[
        bool, typer.Option("--layer-of-largest-effect", help="Of each run and label the layer that costs most recall.")
    ] = False,
    k: KOption = 20,
    pooling: PoolingOption = None,
    mode: ModeOption = "error_preserving",
    positions: PositionsOption = "all",
    draws: DrawsOption = 5,
    seed: SeedOption = 0,
    csv: CsvOption = None,
    plot: PlotOption = None,
    device: DeviceOption = "auto",
    store: StoreOption = None,
    json: JsonOption = False,
) -> None:
    """Knock out the features of many labels, in one run or several side by side.

    A killed table goes on where it was.

    Example: [bold]tegakari knockout table --runs demo-jpn,demo-base --labels 旅行,園芸 --layer-of-largest-effect[/]
    """
    from tegakari.analyses.engine.run_models import model_loader
    from tegakari.analyses.knockout.plots import label_bars
    from tegakari.analyses.knockout.sweeps import over_labels
    from tegakari.store import Store

    if (layer is None) != layer_of_largest_effect:
        raise ConfigError(
            "give either a layer or --layer-of-largest-effect", field="--layer", fix="the study reports the latter"
        )
    directory = store_directory(store)
    opened = [Store(directory).run(name) for name in runs.split(",")]
    asked = converted(
        KnockoutSettings, layer=layer, k=k, pooling=pooling, mode=mode, positions=positions, draws=draws, seed=seed
    )
    shared = [label for label in opened[0].labels if all(label in run.labels for run in opened)]
    chosen = labels.split(",") if labels is not None else shared
    results: dict[str, list[KnockoutResult]] = {}
    with progress() as bars:
        for run in opened:
            load = model_loader(run, device)
            results[run.name] = over_labels(directory, run, load, chosen, asked, progress=bars)
    every = [result for found in results.values() for result in found]
    _write(csv, every)
    if plot:
        _draw(label_bars(results), plot)
    if json:
        print_json(every)
        return
    if len(results) > 1:
        show_beside(results)
    else:
        show(f"Recall without a label's features, {runs}", every)


def curve(
    run: RunOption,
    label: LabelOption,
    layer: Annotated[
        int | None, typer.Option(help="Recall against k = 1 to 200 in this layer; without it: against every layer.")
    ] = None,
    k: KOption = 20,
    pooling: PoolingOption = None,
    mode: ModeOption = "error_preserving",
    positions: PositionsOption = "all",
    draws: FewDrawsOption = 5,
    seed: SeedOption = 0,
    csv: CsvOption = None,
    plot: PlotOption = None,
    device: DeviceOption = "auto",
    store: StoreOption = None,
    json: JsonOption = False,
) -> None:
    """Recall of a label against the number of its features that are taken out of a layer, or against every layer.

    Example: [bold]tegakari knockout curve --run demo-jpn --label 自動車 --layer 2 --plot curve.svg[/]
    """
    from tegakari.analyses.engine.run_models import model_loader
    from tegakari.analyses.knockout.plots import recall_curve
    from tegakari.analyses.knockout.sweeps import over_k, over_layers
    from tegakari.store import Store

    directory = store_directory(store)
    opened = Store(directory).run(run)
    asked = converted(
        KnockoutSettings,
        label=label,
        layer=layer,
        k=k,
        pooling=pooling,
        mode=mode,
        positions=positions,
        draws=draws,
        seed=seed,
    )
    with progress() as bars:
        load = model_loader(opened, device)
        if layer is None:
            (results,) = over_layers(directory, opened, load, [asked], progress=bars)
        else:
            results = over_k(directory, opened, load, asked, progress=bars)
    _write(csv, results)
    if plot:
        _draw(recall_curve(results, over="layer" if layer is None else "k"), plot)
    if json:
        print_json(results)
        return
    show(f"Recall of {label} in {run}", results)


def single(
    run: RunOption,
    label: LabelOption,
    layer: LayerOption,
    k: KOption = 20,
    pooling: PoolingOption = None,
    mode: ModeOption = "error_preserving",
    positions: PositionsOption = "all",
    draws: FewDrawsOption = 0,
    seed: SeedOption = 0,
    csv: CsvOption = None,
    device: DeviceOption = "auto",
    store: StoreOption = None,
    json: JsonOption = False,
) -> None:
    """Take out each of a label's strongest features alone.

    Example: [bold]tegakari knockout single --run demo-jpn --label 自動車 --layer 2 -k 10[/]
    """
    from tegakari.analyses.engine.run_models import model_loader
    from tegakari.analyses.knockout.sweeps import over_features
    from tegakari.store import Store

    directory = store_directory(store)
    opened = Store(directory).run(run)
    asked = converted(
        KnockoutSettings,
        label=label,
        layer=layer,
        k=k,
        pooling=pooling,
        mode=mode,
        positions=positions,
        draws=draws,
        seed=seed,
    )
    with progress() as bars:
        load = model_loader(opened, device)
        results = over_features(directory, opened, load, asked, progress=bars)
    _write(csv, results)
    if json:
        print_json(results)
        return
    print_table(
        f"Recall of {label} in {run} without one feature of layer {layer}",
        ("feature", "d", "density", "after", "points", "95 % interval", "go to"),
        [
            (
                str(row.features[0].feature),
                row.features[0].d,
                row.features[0].density,
                row.recall_after,
                f"{row.delta:+.1f}",
                f"{row.delta_low:+.1f} to {row.delta_high:+.1f}",
                ", ".join(f"{place.label} {place.documents}" for place in row.lost[:3]),
            )
            for row in results
        ],
    )


def smallest(
    run: RunOption,
    label: LabelOption,
    layer: LayerOption,
    candidates: Annotated[int, typer.Option(help="Features with the largest d to choose from.")] = 50,
    share: Annotated[float, typer.Option(help="Of the recall, to come down to.")] = 0.5,
    pooling: PoolingOption = None,
    mode: ModeOption = "error_preserving",
    positions: PositionsOption = "all",
    plot: PlotOption = None,
    device: DeviceOption = "auto",
    store: StoreOption = None,
    json: JsonOption = False,
) -> None:
    """Search the fewest features without which a label's recall is halved: how many clues it hangs on.

    Example: [bold]tegakari knockout smallest --run demo-jpn --label 自動車 --layer 2[/]
    """
    from tegakari.analyses.engine.run_models import model_loader
    from tegakari.analyses.knockout.plots import greedy_steps
    from tegakari.analyses.knockout.smallest import smallest_set
    from tegakari.store import Store

    directory = store_directory(store)
    opened = Store(directory).run(run)
    asked = converted(
        SmallestSetSettings,
        label=label,
        layer=layer,
        candidates=candidates,
        share=share,
        pooling=pooling,
        mode=mode,
        positions=positions,
    )
    with progress() as bars:
        result = smallest_set(directory, opened, model_loader(opened, device), asked, progress=bars)
    if plot:
        _draw(greedy_steps(result), plot)
    if json:
        print_json(result)
        return
    print_table(
        f"Features of layer {layer} that {label} hangs on in {run}: recall {result.recall_before:.3f} with all",
        ("taken out", "feature", "d", "recall"),
        [(number, str(step.feature), step.d, step.recall) for number, step in enumerate(result.steps, 1)],
    )
    if result.reached:
        by_d = f"{result.by_d} by d" if result.by_d else "by d all candidates do not suffice"
        out.print(f"{len(result.steps)} features come down to {result.target:.3f}; {by_d}", soft_wrap=True)
    else:
        out.print(
            f"no more of the {candidates} candidates lowers it: {result.target:.3f} is not reached", soft_wrap=True
        )


def _write(path: Path | None, results: Sequence[KnockoutResult]) -> None:
    if path is None:
        return
    from pyarrow import csv

    from tegakari.analyses.knockout.rows import knockout_rows

    csv.write_csv(knockout_rows(results), path)
    out.print(f"wrote {path}", soft_wrap=True)


def _draw(figure: object, path: Path) -> None:
    from tegakari.analyses.svg import save_svg

    save_svg(figure, path)  # type: ignore[arg-type]
    out.print(f"wrote {path}", soft_wrap=True)


COMMANDS = (table, curve, single, smallest)

for command in COMMANDS:
    app.command(command.__name__)(command)
